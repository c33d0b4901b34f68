//! What the facts about one incident add up to.

use crate::fact::{Fact, FactKind};
use br_std::Nanos;
use std::collections::{BTreeMap, BTreeSet};

/// An incident keeps this many facts; later notes are refused by [`Incident::is_full`], not lost silently.
pub const FACTS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentState {
    Open,
    Acknowledged,
    /// By a person, never by itself.
    Resolved,
}

impl IncidentState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Acknowledged, Self::Resolved].into_iter().find(|state| state.as_str() == name)
    }
}

/// One alert of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedAlert {
    pub name: String,
    pub linked_at: Nanos,
    pub resolved_at: Option<Nanos>,
}

/// A line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    pub at: Nanos,
    /// `opened`, `alert`, `alert_resolved`, `stable`, `acknowledged`, `resolved`, `note`.
    pub kind: &'static str,
    /// Empty for what happened by itself.
    pub by: String,
    pub text: String,
}

/// An incident. Two of the same facts are equal, whatever the order in which the facts came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incident {
    pub id: String,
    facts: BTreeSet<Fact>,
}

impl Incident {
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), facts: BTreeSet::new() }
    }

    /// Takes a fact in. A fact of another incident, or one that is known, changes nothing; the answer says whether it was new.
    pub fn apply(&mut self, fact: Fact) -> bool {
        fact.incident_id == self.id && self.facts.insert(fact)
    }

    /// No more than this is kept of one incident.
    pub fn is_full(&self) -> bool {
        self.facts.len() >= FACTS_MAX
    }

    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    fn opening(&self) -> Option<(&Fact, &str, &str, &str, &str)> {
        self.facts.iter().find_map(|fact| match &fact.kind {
            FactKind::Opened { title, severity, service, correlation_key } => {
                Some((fact, title.as_str(), severity.as_str(), service.as_str(), correlation_key.as_str()))
            }
            _ => None,
        })
    }

    pub fn title(&self) -> &str {
        self.opening().map_or("", |(_, title, ..)| title)
    }

    pub fn severity(&self) -> &str {
        self.opening().map_or("", |(_, _, severity, ..)| severity)
    }

    pub fn service(&self) -> &str {
        self.opening().map_or("", |(_, _, _, service, _)| service)
    }

    pub fn correlation_key(&self) -> &str {
        self.opening().map_or("", |(.., key)| key)
    }

    /// When it was opened; where that fact is missing, when the first thing happened.
    pub fn opened_at(&self) -> Nanos {
        let first = self.opening().map(|(fact, ..)| fact).or(self.facts.first());
        first.map_or(Nanos::default(), |fact| Nanos(fact.at))
    }

    /// The first acknowledgement and who made it.
    pub fn acknowledged(&self) -> Option<(Nanos, &str)> {
        self.facts.iter().find_map(|fact| match &fact.kind {
            FactKind::Acknowledged { by, .. } => Some((Nanos(fact.at), by.as_str())),
            _ => None,
        })
    }

    /// When a person closed it, and who.
    pub fn resolved(&self) -> Option<(Nanos, &str)> {
        self.facts.iter().find_map(|fact| match &fact.kind {
            FactKind::Resolved { by, .. } => Some((Nanos(fact.at), by.as_str())),
            _ => None,
        })
    }

    pub fn state(&self) -> IncidentState {
        match (self.resolved(), self.acknowledged()) {
            (Some(_), _) => IncidentState::Resolved,
            (None, Some(_)) => IncidentState::Acknowledged,
            (None, None) => IncidentState::Open,
        }
    }

    /// By alert id.
    pub fn alerts(&self) -> BTreeMap<&str, LinkedAlert> {
        let mut alerts = BTreeMap::new();
        for fact in &self.facts {
            let at = Nanos(fact.at);
            match &fact.kind {
                FactKind::AlertLinked { alert_id, name } => {
                    let fresh = LinkedAlert { name: name.clone(), linked_at: at, resolved_at: None };
                    alerts.entry(alert_id.as_str()).or_insert(fresh).linked_at = at;
                }
                FactKind::AlertResolved { alert_id, name } => {
                    let fresh = LinkedAlert { name: name.clone(), linked_at: at, resolved_at: None };
                    alerts.entry(alert_id.as_str()).or_insert(fresh).resolved_at = Some(at);
                }
                _ => {}
            }
        }
        alerts
    }

    /// How many of its alerts still fire.
    pub fn firing(&self) -> usize {
        self.alerts().values().filter(|alert| alert.resolved_at.is_none()).count()
    }

    /// Since when all its alerts are quiet; `None` while one fires.
    pub fn stable_since(&self) -> Option<Nanos> {
        let alerts = self.alerts();
        let ends: Option<Vec<Nanos>> = alerts.values().map(|alert| alert.resolved_at).collect();
        ends?.into_iter().max()
    }

    /// The whole story, oldest first.
    pub fn timeline(&self) -> Vec<TimelineEntry> {
        let mut timeline: Vec<TimelineEntry> = self.facts.iter().map(line).collect();
        if let Some(at) = self.stable_since() {
            let text = "All alerts have resolved. The incident stays open until a person resolves it.".to_owned();
            let after = timeline.iter().rposition(|entry| entry.kind == "alert_resolved" && entry.at == at);
            let place = after.map_or(timeline.len(), |place| place + 1);
            timeline.insert(place, TimelineEntry { at, kind: "stable", by: String::new(), text });
        }
        timeline
    }
}

fn line(fact: &Fact) -> TimelineEntry {
    let (kind, by, text) = match &fact.kind {
        FactKind::Opened { title, .. } => ("opened", "", title.clone()),
        FactKind::AlertLinked { name, .. } => ("alert", "", format!("{name} fires")),
        FactKind::AlertResolved { name, .. } => ("alert_resolved", "", format!("{name} has resolved")),
        FactKind::Acknowledged { by, text } => ("acknowledged", by.as_str(), text.clone()),
        FactKind::Resolved { by, text } => ("resolved", by.as_str(), text.clone()),
        FactKind::Noted { by, text } => ("note", by.as_str(), text.clone()),
    };
    TimelineEntry { at: Nanos(fact.at), kind, by: by.to_owned(), text }
}
