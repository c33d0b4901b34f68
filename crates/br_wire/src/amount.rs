//! How much a body holds, counted before anything is allocated for it.
//!
//! Two bytes on the wire can be an empty span of three hundred in memory: a bound on the bytes does not bound the memory.

use crate::otlp::Signal;
use crate::protobuf::{Field, Reader};
use crate::{Limits, Result, WireError};

/// Parts (attributes, values, events) that may come with each record, on average.
const PARTS_PER_RECORD: usize = 16;

/// The messages of OTLP as far as they nest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Request,
    Group,
    Scoped,
    /// A span, log record or metric.
    Record,
    /// What holds the points of a metric. The number is that of the metric's field, which tells of what kind they are.
    Points(u32),
    Point(u32),
    /// Anything inside a record, a resource or a scope.
    Part,
}

/// The fields of a metric that hold points: gauge, sum, histogram, exponential histogram, summary.
const POINTS: [u32; 5] = [5, 7, 9, 10, 11];

/// Checks a protobuf export request.
pub(crate) fn check_otlp(message: &[u8], signal: Signal, limits: &Limits) -> Result<()> {
    let mut counter = Counter { signal, records: 0, points: 0, parts: 0, limits };
    counter.walk(message, Node::Request, 0)
}

struct Counter<'a> {
    signal: Signal,
    records: usize,
    points: usize,
    parts: usize,
    limits: &'a Limits,
}

/// prost reads no deeper.
const DEPTH_MAX: usize = 100;

impl Counter<'_> {
    /// An error says where in the request it is, such as `resource[0]: scope[0]: record[2]: byte 17`.
    fn walk(&mut self, message: &[u8], node: Node, depth: usize) -> Result<()> {
        let mut reader = Reader::new(message);
        let mut counts = [0_usize; 5];
        loop {
            let at = message.len() - reader.rest_bytes();
            let next = reader.next().map_err(|error| error.context(format!("byte {at}")))?;
            let Some((number, field)) = next else { return Ok(()) };
            let Field::Bytes(bytes) = field else { continue };
            self.parts += 1;
            let inner = match (node, number) {
                (Node::Request, 1) => Node::Group,
                (Node::Group, 2) => Node::Scoped,
                (Node::Scoped, 2) => Node::Record,
                (Node::Record, _) if self.signal == Signal::Metrics && POINTS.contains(&number) => Node::Points(number),
                (Node::Points(kind), 1) => Node::Point(kind),
                (Node::Request, _) => continue,
                _ => Node::Part,
            };
            match inner {
                Node::Record => self.records += 1,
                Node::Point(_) => self.points += 1,
                _ => {}
            }
            self.check()?;
            if inner == Node::Part {
                self.walk_part(bytes, depth + 1)?;
                continue;
            }
            let (name, count) = match inner {
                Node::Group => ("resource", &mut counts[0]),
                Node::Scoped => ("scope", &mut counts[1]),
                Node::Points(_) => ("data", &mut counts[3]),
                Node::Point(_) => ("point", &mut counts[4]),
                _ => ("record", &mut counts[2]),
            };
            let at = *count;
            *count += 1;
            self.walk(bytes, inner, depth + 1).map_err(|error| error.context(format!("{name}[{at}]")))?;
        }
    }

    /// Counts what may be messages inside a part. Text looks like one at times: what does not parse is none.
    fn walk_part(&mut self, bytes: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Ok(());
        }
        let mut reader = Reader::new(bytes);
        while let Ok(Some((_, field))) = reader.next() {
            if let Field::Bytes(inner) = field {
                self.parts += 1;
                self.check()?;
                self.walk_part(inner, depth + 1)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        check(self.records, self.limits.records_max, "records")?;
        check(self.points, self.limits.records_max, "data points")?;
        check(self.parts, self.limits.records_max.saturating_mul(PARTS_PER_RECORD), "parts")
    }
}

/// The places that one request has for records of one kind. Each is taken before the record is made.
pub(crate) struct Room {
    left: usize,
    count_max: usize,
    what: &'static str,
}

impl Room {
    pub(crate) fn new(count_max: usize, what: &'static str) -> Self {
        Self { left: count_max, count_max, what }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<()> {
        let Some(left) = self.left.checked_sub(count) else {
            return Err(WireError::TooLarge(format!("more than {} {} in one request", self.count_max, self.what)));
        };
        self.left = left;
        Ok(())
    }
}

/// Checks a JSON body: how many values it holds.
pub(crate) fn check_json(body: &[u8], limits: &Limits) -> Result<()> {
    let mut values = 0;
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b',' | b'[' | b'{')) {
        let byte = rest[at];
        rest = &rest[at + 1..];
        if byte == b'"' {
            rest = behind_string(rest);
        } else {
            values += 1;
        }
    }
    check(values, limits.records_max.saturating_mul(PARTS_PER_RECORD), "JSON values")
}

/// What stands behind the quote that ends a string.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn check(count: usize, count_max: usize, what: &str) -> Result<()> {
    if count > count_max {
        return Err(WireError::TooLarge(format!("more than {count_max} {what} in one request")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_things_are_too_many() {
        let limits = Limits { records_max: 10, ..Limits::default() };
        let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
        let request = |spans: usize| field(1, &field(2, &field(2, b"").repeat(spans)));
        assert_eq!(check_otlp(&request(10), Signal::Traces, &limits), Ok(()));
        assert_eq!(check_otlp(&request(11), Signal::Traces, &limits).map_err(|error| error.http_status()), Err(413));
        let attributes = field(1, &field(1, &field(1, b"").repeat(40)));
        assert_eq!(check_otlp(&attributes, Signal::Traces, &limits), Ok(()));
        assert_eq!(check_otlp(&attributes.repeat(4), Signal::Traces, &limits).map_err(|error| error.http_status()), Err(413));
        let broken = field(1, &[field(2, &[field(2, b""), field(2, &[0x0a, 0x7f])].concat())].concat());
        let error = check_otlp(&broken, Signal::Traces, &limits).expect_err("a field that ends outside of its message");
        assert_eq!(error.to_string(), "resource[0]: scope[0]: record[1]: byte 0: protobuf: the message ends inside a field");
        let gauge = |points: usize| field(1, &field(2, &field(2, &field(5, &field(1, b"").repeat(points)))));
        assert_eq!(check_otlp(&gauge(10), Signal::Metrics, &limits), Ok(()));
        assert_eq!(check_otlp(&gauge(11), Signal::Metrics, &limits).map_err(|error| error.http_status()), Err(413));
        assert_eq!(check_otlp(&gauge(11), Signal::Logs, &limits), Ok(()), "attributes are no points");
        assert_eq!(check_json(br#"{"a,,,[[[\"": [1, 2]}"#, &limits), Ok(()));
        assert_eq!(check_json("[0,".repeat(99).as_bytes(), &limits).map_err(|error| error.http_status()), Err(413));
    }
}
