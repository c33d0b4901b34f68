//! `| status >= 500 and (took > 1s or client = ip("10.0.0.0/8"))`.

use super::Stage;
use crate::ast::{CompareOp, LabelFilter, Quantity};
use crate::ip::IpRange;
use crate::pipeline::Line;
use crate::units;
use br_storage::Matcher;
use std::net::IpAddr;

pub(super) struct LabelFilterStage(Test);

enum Test {
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Text(Matcher),
    Compare { name: String, op: CompareOp, value: Quantity },
    Ip { name: String, negated: bool, range: IpRange },
}

impl LabelFilterStage {
    pub(super) fn new(filter: &LabelFilter) -> Result<Self, String> {
        compile(filter).map(Self)
    }
}

fn compile(filter: &LabelFilter) -> Result<Test, String> {
    Ok(match filter {
        LabelFilter::And(left, right) => Test::And(Box::new(compile(left)?), Box::new(compile(right)?)),
        LabelFilter::Or(left, right) => Test::Or(Box::new(compile(left)?), Box::new(compile(right)?)),
        LabelFilter::Text(matcher) => Test::Text(matcher.clone()),
        LabelFilter::Compare { name, op, value } => Test::Compare { name: name.clone(), op: *op, value: *value },
        LabelFilter::Ip { name, negated, pattern } => {
            Test::Ip { name: name.clone(), negated: *negated, range: IpRange::parse(pattern)? }
        }
    })
}

impl Stage for LabelFilterStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        holds(&self.0, line)
    }
}

fn holds(test: &Test, line: &mut Line<'_>) -> bool {
    match test {
        Test::And(left, right) => holds(left, line) && holds(right, line),
        Test::Or(left, right) => holds(left, line) || holds(right, line),
        Test::Text(matcher) => matcher.matches(line.labels.get_or_empty(&matcher.name)),
        Test::Compare { name, op, value } => compare(line, name, *op, *value),
        Test::Ip { name, negated, range } => {
            if line.labels.has_error() {
                return true;
            }
            let Some(text) = line.labels.get(name) else { return false };
            let found = text.parse::<IpAddr>().map_or_else(|_| range.is_in(text), |address| range.contains(address));
            found != *negated
        }
    }
}

/// A value that is no quantity keeps the line and marks it; a label that is missing drops it.
fn compare(line: &mut Line<'_>, name: &str, op: CompareOp, wanted: Quantity) -> bool {
    if line.labels.has_error() {
        return true;
    }
    let Some(text) = line.labels.get(name) else { return false };
    let (found, wanted) = match wanted {
        Quantity::Number(wanted) => (text.parse::<f64>().ok(), wanted),
        Quantity::Duration(wanted) => (units::go_duration_nanos(text).map(|nanos| nanos as f64), wanted),
        Quantity::Bytes(wanted) => (units::bytes(text), wanted),
    };
    let Some(found) = found else {
        let details = format!("cannot compare label {name}: {text:?} is not of the filter's type");
        line.labels.set_error("LabelFilterErr", details);
        return true;
    };
    op.holds(found, wanted)
}
