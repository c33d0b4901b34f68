//! Jaeger's integration queries: which of the fixtures beside them each must find.

use super::Checks;
use super::otlp::decode;
use super::stand::{check, compare, given, taken, trace_ids};
use br_model::SpanBatch;
use br_std::Nanos;
use br_storage::TimeRange;
use br_wire::jaeger::TraceFilter;
use br_wire::otlp::Encoding;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Case {
    caption: String,
    query: Query,
    expected_fixtures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    service_name: String,
    operation_name: String,
    tags: Option<Map<String, Value>>,
    start_time_min: String,
    start_time_max: String,
    duration_min: i64,
    duration_max: i64,
    num_traces: usize,
}

impl Query {
    fn to_traceql(&self) -> String {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let tags = self.tags.iter().flatten().map(|(key, value)| (key.clone(), text(value)));
        let filter = TraceFilter {
            service: self.service_name.clone(),
            operation: self.operation_name.clone(),
            tags: tags.collect(),
            duration_min_nanos: (self.duration_min > 0).then_some(self.duration_min),
            duration_max_nanos: (self.duration_max > 0).then_some(self.duration_max),
        };
        filter.to_traceql()
    }

    fn range(&self) -> Result<TimeRange, String> {
        Ok(TimeRange::new(time(&self.start_time_min)?, Nanos(time(&self.start_time_max)?.0 + 1)))
    }
}

pub(super) fn time(text: &str) -> Result<Nanos, String> {
    let time: jiff::Timestamp = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    i64::try_from(time.as_nanosecond()).map(Nanos).map_err(|error| error.to_string())
}

/// All fixtures of the folder are in the store: what is not expected must not be found.
pub(super) fn run(value: &Value, folder: &Path, checks: &mut Checks) -> Result<(), String> {
    let cases: Vec<Case> = Vec::deserialize(value).map_err(|error| error.to_string())?;
    let mut fixtures: BTreeMap<String, SpanBatch> = BTreeMap::new();
    for path in super::json_files(folder) {
        fixtures.insert(super::name_of(&path), decode(&super::read(&path)?, Encoding::Json)?);
    }
    let batches: Vec<SpanBatch> = fixtures.values().cloned().collect();
    check(&batches, checks, |place, checks| {
        for case in &cases {
            let what = format!("{:?} in {}", case.caption, place.name);
            let mut expected = BTreeSet::new();
            for name in &case.expected_fixtures {
                let fixture = fixtures.get(name).ok_or_else(|| format!("no fixture {name}"))?;
                expected.extend(trace_ids(std::slice::from_ref(fixture)));
            }
            let found = place.find(&case.query.to_traceql(), case.query.range()?, case.query.num_traces)?;
            let mut wrong = None;
            for id in &found {
                wrong = wrong.or(compare(&taken(&place.trace(*id)?), &given(&batches, *id)));
            }
            let found: BTreeSet<_> = found.into_iter().collect();
            if found != expected {
                wrong = Some(format!("found {found:?}, expected {expected:?} by {}", case.query.to_traceql()));
            }
            checks.add(&what, wrong);
        }
        Ok(())
    })
}
