//! Erasures as they stand in the journal and in the catalog: what an administrator asked for, with its question compiled.

use br_events::{Erasure, LogTest};
use br_logql::{Expr, LogExpr, Pipeline, log_hints};
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, LogHint, LogRow, Matcher, Table, TimeRange};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What to erase: records for which all of it holds. Version 1 of the bytes is its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureRequest {
    #[serde(default = "version")]
    pub version: u32,
    #[serde(default)]
    pub id: String,
    /// Who asked for it, and when: nanoseconds since the epoch.
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub at: i64,
    /// A log query; spans go by its stream selector, and are not meant where it has stages.
    #[serde(default)]
    pub query: Option<String>,
    /// Attributes of the record or its resource, by key and text.
    #[serde(default)]
    pub attributes: Vec<(String, String)>,
    /// Stands somewhere in the record.
    #[serde(default)]
    pub contains: Option<String>,
    /// Nanoseconds since the epoch; the end is not included.
    pub from: i64,
    pub to: i64,
    /// `logs` or `spans`; both when it does not say.
    #[serde(default)]
    pub of: Option<String>,
}

/// A shorter text stands in too much.
const CONTAINS_BYTES_MIN: usize = 4;
const TEXT_BYTES_MAX: usize = 4096;
const ATTRIBUTES_MAX: usize = 16;

fn version() -> u32 {
    ErasureRequest::VERSION
}

impl ErasureRequest {
    pub const VERSION: u32 = 1;

    pub fn encode(&self) -> Vec<u8> {
        // Texts and numbers: the library has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| Error::corrupt(format!("an erasure: {what}"));
        let request: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if request.version != Self::VERSION {
            return Err(damaged(format!("version {} is not known", request.version)));
        }
        Ok(request)
    }

    /// Refuses what would erase everything by mistake.
    pub fn compile(&self) -> Result<Erasure> {
        let wrong = |what: String| Err(Error::fix_request(what));
        let query = self.query.as_deref().map(LogQuestion::compile).transpose()?;
        if query.is_none() && self.attributes.is_empty() && self.contains.is_none() {
            return wrong("an erasure needs a query, attributes or a text that the records contain".to_owned());
        }
        if self.attributes.len() > ATTRIBUTES_MAX {
            return wrong(format!("an erasure takes {ATTRIBUTES_MAX} attributes at the most, not {}", self.attributes.len()));
        }
        if let Some((key, _)) = self.attributes.iter().find(|(key, text)| key.is_empty() || text.is_empty()) {
            return wrong(format!("attribute {key:?}: neither key nor value may be empty"));
        }
        let texts = self.attributes.iter().flat_map(|(key, text)| [key, text]).chain(&self.contains).chain(&self.query);
        if let Some(long) = texts.map(String::len).find(|bytes| *bytes > TEXT_BYTES_MAX) {
            return wrong(format!("a text of {long} bytes: {TEXT_BYTES_MAX} at the most"));
        }
        if let Some(text) = self.contains.as_ref().filter(|text| text.len() < CONTAINS_BYTES_MIN) {
            return wrong(format!("contains {text:?}: a text of less than {CONTAINS_BYTES_MIN} bytes stands in too much"));
        }
        if self.from >= self.to {
            return wrong("the end of an erasure does not lie behind its start".to_owned());
        }
        let table = match self.of.as_deref() {
            None => None,
            Some("logs") => Some(Table::Logs),
            Some("spans") => Some(Table::Spans),
            Some(other) => return wrong(format!("of {other:?}: it is logs or spans")),
        };
        if let Some(query) = query.as_ref().filter(|query| query.has_stages() && table == Some(Table::Spans)) {
            return wrong(format!("{:?} has stages, which ask of log lines: spans have none", query.text));
        }
        Ok(Erasure {
            id: self.id.clone(),
            query: query.map(|query| Arc::new(query) as Arc<dyn LogTest>),
            attributes: self.attributes.clone(),
            contains: self.contains.clone(),
            range: TimeRange::new(Nanos(self.from), Nanos(self.to)),
            table,
            source: self.encode().into(),
        })
    }

    /// Texts that stand in records that are meant, and name them: where else they stand they are erased, too.
    pub fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.contains.iter().cloned().collect();
        texts.extend(self.attributes.iter().map(|(_, text)| text.clone()));
        if let Some(Ok(Expr::Log(log))) = self.query.as_deref().map(br_logql::parse) {
            texts.extend(log_hints(&log).into_iter().filter_map(|hint| match hint {
                LogHint::LineContains(text) | LogHint::AttributeEquals { value: text, .. } => Some(text),
                _ => None,
            }));
        }
        texts.retain(|text| text.len() >= CONTAINS_BYTES_MIN);
        texts.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        texts
    }
}

/// A log query of an erasure.
struct LogQuestion {
    text: String,
    log: LogExpr,
    pipeline: Pipeline,
}

impl LogQuestion {
    fn compile(text: &str) -> Result<Self> {
        let wrong = |what: String| Error::fix_request(format!("query {text:?}: {what}"));
        let Expr::Log(log) = br_logql::parse(text).map_err(|error| wrong(error.to_string()))? else {
            return Err(wrong("an erasure goes by a log query, not by a metric query".to_owned()));
        };
        let pipeline = Pipeline::compile(&log).map_err(|(_, error)| wrong(error))?;
        log.matchers.iter().try_for_each(|matcher| matcher.prepare(&Budget::unlimited()))?;
        Ok(Self { text: text.to_owned(), log, pipeline })
    }
}

impl fmt::Debug for LogQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl LogTest for LogQuestion {
    fn matchers(&self) -> &[Matcher] {
        &self.log.matchers
    }

    fn hints(&self) -> Vec<LogHint> {
        log_hints(&self.log)
    }

    fn has_stages(&self) -> bool {
        !self.log.stages.is_empty()
    }

    fn means(&self, row: &LogRow) -> bool {
        self.pipeline.process(row, &Budget::unlimited()).is_some()
    }
}
