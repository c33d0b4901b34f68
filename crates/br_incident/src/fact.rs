//! What can happen to an incident, as the ledger keeps it.

use br_model::Labels;
use br_std::{Error, Nanos, Result};
use serde::{Deserialize, Serialize};

/// The form of [`Fact`]; raised when a field changes its meaning.
pub const FACT_VERSION: u32 = 1;
/// A person's text may be this long.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// And a person's name.
const BY_BYTES_MAX: usize = 256;

/// One thing that happened. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fact {
    /// First, so that facts sort by time.
    pub at: i64,
    #[serde(flatten)]
    pub kind: FactKind,
    pub incident_id: String,
    pub version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum FactKind {
    Opened {
        title: String,
        severity: String,
        service: String,
        correlation_key: String,
    },
    /// An alert of the same cause fired.
    AlertLinked {
        alert_id: String,
        name: String,
    },
    /// The signal of a linked alert is quiet again.
    AlertResolved {
        alert_id: String,
        name: String,
    },
    Acknowledged {
        by: String,
        text: String,
    },
    Resolved {
        by: String,
        text: String,
    },
    Noted {
        by: String,
        text: String,
    },
}

impl Fact {
    pub fn new(incident_id: impl Into<String>, at: Nanos, kind: FactKind) -> Self {
        Self { at: at.0, kind, incident_id: incident_id.into(), version: FACT_VERSION }
    }

    /// The kind under which the ledger keeps it.
    pub fn ledger_kind(&self) -> &'static str {
        match self.kind {
            FactKind::Opened { .. } => "incident.opened",
            FactKind::AlertLinked { .. } => "incident.alert_linked",
            FactKind::AlertResolved { .. } => "incident.alert_resolved",
            FactKind::Acknowledged { .. } => "incident.acknowledged",
            FactKind::Resolved { .. } => "incident.resolved",
            FactKind::Noted { .. } => "incident.noted",
        }
    }

    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::fix_request(format!("a fact cannot be written: {error}")))
    }

    /// `Corrupt` when the text is no fact, or one of a later release.
    pub fn from_json(text: &str) -> Result<Self> {
        let fact: Self =
            serde_json::from_str(text).map_err(|error| Error::corrupt(format!("not an incident's fact: {error}")))?;
        if fact.version > FACT_VERSION {
            return Err(Error::corrupt(format!("a fact of version {}, newer than {FACT_VERSION}", fact.version)));
        }
        Ok(fact)
    }
}

impl FactKind {
    /// What a person does; the texts are checked here.
    pub fn by_person(kind: fn(String, String) -> Self, by: &str, text: &str) -> Result<Self> {
        let by = by.trim();
        if by.is_empty() {
            return Err(Error::fix_request("'by' must say who does it"));
        }
        if by.len() > BY_BYTES_MAX {
            return Err(Error::over_limit(format!("'by' takes {} bytes, at most {BY_BYTES_MAX} are kept", by.len())));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::over_limit(format!("'text' takes {} bytes, at most {TEXT_BYTES_MAX} are kept", text.len())));
        }
        Ok(kind(by.to_owned(), text.to_owned()))
    }

    pub fn acknowledged(by: String, text: String) -> Self {
        Self::Acknowledged { by, text }
    }

    pub fn resolved(by: String, text: String) -> Self {
        Self::Resolved { by, text }
    }

    pub fn noted(by: String, text: String) -> Self {
        Self::Noted { by, text }
    }
}

/// The service that an alert is about, by the first of the labels that say so.
pub fn service_of(labels: &Labels) -> &str {
    ["service", "service_name", "job"].into_iter().find_map(|name| labels.get(name)).unwrap_or("")
}

/// Alerts with the same key belong to one incident: those of one service, or without a service those of one name;
/// each severity apart, so that a ticket does not hide a page.
pub fn correlation_key(labels: &Labels) -> String {
    let service = service_of(labels);
    let severity = labels.get("severity").unwrap_or("");
    let subject = if service.is_empty() {
        format!("alertname={}", labels.get("alertname").unwrap_or(""))
    } else {
        format!("service={service}")
    };
    format!("{subject},severity={severity}")
}
