//! What an administrator deleted.
//!
//! A deletion takes its place in the order of the journal: what was accepted before it is gone, what comes after it stays.
//! Until the files are written anew without what it names, it is kept as a tombstone that hides it.

use crate::verdicts::Known;
use br_model::{Labels, TenantId};
use br_std::{Error, Result};
use br_storage::{Budget, JournalPosition, MatchOp, Matcher};
use serde::{Deserialize, Serialize};

/// Which samples to delete.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    /// A series is meant when all matchers of any of these hold.
    pub selectors: Vec<Vec<Matcher>>,
    /// Both included, in milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
}

/// Version 1 of the bytes, in the journal and in the catalog: JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    from_ms: i64,
    to_ms: i64,
    /// Name, operator, value.
    selectors: Vec<Vec<(String, String, String)>>,
}

const VERSION: u32 = 1;
/// Selectors of one deletion.
const SELECTORS_MAX: usize = 64;

impl Deletion {
    /// Refuses one that would match every series by mistake.
    pub fn new(selectors: Vec<Vec<Matcher>>, from_ms: i64, to_ms: i64) -> Result<Self> {
        if selectors.is_empty() || selectors.len() > SELECTORS_MAX {
            return Err(Error::fix_request(format!("a deletion takes 1 to {SELECTORS_MAX} selectors, not {}", selectors.len())));
        }
        if selectors.iter().any(|matchers| matchers.iter().all(Matcher::matches_empty)) {
            return Err(Error::fix_request("a selector of a deletion needs a matcher that no empty value satisfies"));
        }
        selectors.iter().flatten().try_for_each(|matcher| matcher.prepare(&Budget::unlimited()))?;
        if from_ms > to_ms {
            return Err(Error::fix_request("the end of a deletion lies before its start"));
        }
        Ok(Self { selectors, from_ms, to_ms })
    }

    pub fn encode(&self) -> Vec<u8> {
        let selector = |matchers: &Vec<Matcher>| {
            matchers.iter().map(|one| (one.name.clone(), one.op.as_str().to_owned(), one.value.clone())).collect()
        };
        let selectors = self.selectors.iter().map(selector).collect();
        let written = Written { version: VERSION, from_ms: self.from_ms, to_ms: self.to_ms, selectors };
        // Texts and numbers: the library has nothing to refuse.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| Error::corrupt(format!("a deletion: {what}"));
        let written: Written = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if written.version != VERSION {
            return Err(damaged(format!("version {} is not known", written.version)));
        }
        let matcher = |(name, op, value): (String, String, String)| {
            let known = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let found = known.into_iter().find(|known| known.as_str() == op);
            Matcher::new(found.ok_or_else(|| damaged(format!("{op:?} is no operator")))?, name, value)
        };
        let selectors = written.selectors.into_iter().map(|one| one.into_iter().map(matcher).collect()).collect::<Result<_>>()?;
        Self::new(selectors, written.from_ms, written.to_ms)
    }

    pub(crate) fn means(&self, labels: &Labels) -> bool {
        self.selectors.iter().any(|matchers| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
    }

    pub(crate) fn overlaps(&self, from_ms: i64, to_ms: i64) -> bool {
        self.from_ms <= to_ms && self.to_ms >= from_ms
    }
}

/// What the expressions of a deletion say of the values that the head has: asking them may take long, and is done before the
/// deletion takes its place in the journal, where everything else waits for it. Values that are not in here count as meant where
/// that does no harm.
#[derive(Debug, Default)]
pub struct Foreseen {
    /// By selector.
    pub(crate) known: Vec<Known>,
}

/// A deletion that was applied, and still has to hide what it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    pub tenant: TenantId,
    /// Its record in the journal: samples of records before it are gone.
    pub position: JournalPosition,
    pub deletion: Deletion,
}
