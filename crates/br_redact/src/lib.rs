//! Finds secrets and personal data in what services send, and masks them before anything is kept.
//!
//! A [`Policy`] becomes a [`Redactor`]; that reads a body of a known [`Shape`] and hands back a masked one, or nothing where there was
//! nothing to mask. Every mask has the length of what it hides: a protobuf field keeps its length, a JSON string its quotes, an item
//! of an envelope its size. So no body is taken apart and put together again, and one that was masked is read by the same
//! decoders. What was found is counted by rule; no value is ever handed out.

mod clean;
mod envelope;
mod json;
mod keys;
mod mask;
mod messages;
mod pass;
mod policy;
mod protobuf;
mod rule;
mod rules;
mod scan;
mod thrift;

pub use mask::Action;
pub use policy::{Exception, Pattern, Policy, Redactor};
pub use rule::{Described, RULES, Rule};

use pass::{Pass, Under};
use std::ops::Range;

/// How a body is built. Compression is taken off before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    OtlpLogs,
    OtlpTraces,
    OtlpMetrics,
    RemoteWrite1,
    RemoteWrite2,
    LokiPush,
    ZipkinProtobuf,
    JaegerThrift,
    Json,
    /// JSON in which names of labels say little about their values.
    JsonMetrics,
    SentryEnvelope,
    Text,
}

/// What a look at a body brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The masked body; `None` where nothing was found.
    pub body: Option<Vec<u8>>,
    /// Values by rule, without the rules that found none.
    pub counts: Vec<(String, u64)>,
}

impl Redactor {
    /// Masks a body.
    pub fn redact(&self, body: &[u8], shape: Shape) -> Redacted {
        let mut pass = Pass::new(self, body);
        let all = 0..body.len();
        match shape {
            Shape::OtlpLogs => pass.message(all, &messages::LOGS),
            Shape::OtlpTraces => pass.message(all, &messages::TRACES),
            Shape::OtlpMetrics => of_metrics(&mut pass, all, &messages::METRICS),
            Shape::RemoteWrite1 => of_metrics(&mut pass, all, &messages::REMOTE_WRITE_1),
            Shape::RemoteWrite2 => of_metrics(&mut pass, all, &messages::REMOTE_WRITE_2),
            Shape::LokiPush => pass.message(all, &messages::LOKI),
            Shape::ZipkinProtobuf => pass.message(all, &messages::ZIPKIN),
            Shape::JaegerThrift => thrift::redact(&mut pass, all),
            Shape::Json => json::redact(&mut pass, all),
            Shape::JsonMetrics => {
                pass.is_of_metrics = true;
                json::redact(&mut pass, all);
            }
            Shape::SentryEnvelope => envelope::redact(&mut pass, all),
            Shape::Text => pass.text(all, Under::NOTHING),
        }
        self.outcome(pass)
    }

    /// Whether labels with this hash were looked at before under this policy, and had nothing to mask.
    pub fn knows_clean(&self, hash: u64) -> bool {
        self.clean.knows(hash)
    }

    /// Notes that they had nothing.
    pub fn learn_clean(&self, hash: u64) {
        self.clean.learn(hash);
    }

    /// Masks the value of a metric's label.
    pub fn redact_label(&self, name: &str, value: &str) -> Redacted {
        let mut pass = Pass::new(self, value.as_bytes());
        pass.is_of_metrics = true;
        let under = pass.under(name.as_bytes(), Under::NOTHING);
        pass.text(0..value.len(), under);
        self.outcome(pass)
    }

    fn outcome(&self, pass: Pass<'_>) -> Redacted {
        let (body, counts) = pass.finish();
        let named = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        let counts = named.map(|(id, count)| (self.rule_name(id as u8).to_owned(), count)).collect();
        Redacted { body, counts }
    }

    /// Every value in a text with its rule, in their order: for measuring, and to show what would be masked.
    pub fn find(&self, text: &str) -> Vec<(Range<usize>, String)> {
        let around = scan::Around { key: b"", rules: self.rules, keys: &self.keys };
        let mut found = Vec::new();
        scan::scan(text.as_bytes(), &around, &mut |range, rule| found.push((range, self.rule_name(rule as u8).to_owned())));
        found
    }
}

fn of_metrics(pass: &mut Pass<'_>, place: Range<usize>, message: &messages::Message) {
    pass.is_of_metrics = true;
    pass.message(place, message);
}
