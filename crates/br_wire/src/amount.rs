//! How much a body holds, counted before anything is allocated for it.
//!
//! Two bytes on the wire can be an empty span of three hundred in memory: a bound on the bytes does not bound the memory.

use crate::otlp::Signal;
use crate::protobuf::{Field, Reader};
use crate::{Limits, Result, WireError};

/// Parts (attributes, values, events) that may come with each record, on average.
const PARTS_PER_RECORD: usize = 16;

/// What messages take in memory, as prost's structs and then as the model's, without their texts: a resource or a scope, a record,
/// a data point (what becomes of it in the model is counted apart), what stands in one of these, and what stands in that. An attribute
/// is four parts: itself, its key, its value, and the text in that.
const GROUP_BYTES: usize = 256;
const RECORD_BYTES: usize = 512;
const POINT_BYTES: usize = 256;
const PART_BYTES: usize = 128;
const INNER_PART_BYTES: usize = 32;
/// An exponential histogram's kind of points, and their fields with buckets. A count of one byte is eight in memory.
const EXPONENTIAL: u32 = 10;
const BUCKETS: [u32; 2] = [8, 9];

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
    let mut counter = Counter { signal, records: 0, points: 0, parts: 0, memory: Memory::new(limits), limits };
    counter.walk(message, Node::Request, 0)
}

struct Counter<'a> {
    signal: Signal,
    records: usize,
    points: usize,
    parts: usize,
    memory: Memory,
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
            self.count(node, number, inner, bytes.len())?;
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

    /// Counts the field `number` of `node`, which is an `inner` of `length` bytes.
    fn count(&mut self, node: Node, number: u32, inner: Node, length: usize) -> Result<()> {
        match inner {
            Node::Record => self.records += 1,
            Node::Point(_) => self.points += 1,
            _ => {}
        }
        self.check()?;
        self.memory.take(match (inner, node) {
            (Node::Request | Node::Group | Node::Scoped, _) => GROUP_BYTES,
            (Node::Record, _) => RECORD_BYTES,
            (Node::Point(_), _) => POINT_BYTES,
            (_, Node::Point(EXPONENTIAL)) if BUCKETS.contains(&number) => length.saturating_mul(size_of::<u64>()),
            (_, Node::Group | Node::Scoped | Node::Record | Node::Point(_)) => PART_BYTES,
            _ => INNER_PART_BYTES,
        })
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
                self.memory.take(INNER_PART_BYTES)?;
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

/// The memory that one request may take for what it brings. It is asked for before it is used.
pub(crate) struct Memory {
    taken: usize,
    bytes_max: usize,
}

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { taken: 0, bytes_max: limits.memory_bytes_max }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<()> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken <= self.bytes_max {
            return Ok(());
        }
        let max = self.bytes_max;
        Err(WireError::NeedsMemory(format!("what the request brings takes more than {max} bytes of memory: send less at once")))
    }
}

/// What takes memory when JSON is read.
struct JsonCosts {
    object: usize,
    list: usize,
    comma: usize,
}

/// Read as a tree: a map of one pair has a node with space for eleven, a list of one value has space for four.
const TREE: JsonCosts = JsonCosts { object: 704, list: 192, comma: 64 };
/// Read as messages: most objects are attributes and their values, each record and point is an object with a comma behind.
const MESSAGES: JsonCosts = JsonCosts { object: 200, list: 128, comma: 100 };

/// Checks a JSON body that is read as a tree: how many values it holds, and what these take.
pub(crate) fn check_json(body: &[u8], limits: &Limits) -> Result<()> {
    check_json_as(body, &TREE, limits)
}

/// The same for one that is read as the messages of a protocol.
pub(crate) fn check_json_messages(body: &[u8], limits: &Limits) -> Result<()> {
    check_json_as(body, &MESSAGES, limits)
}

fn check_json_as(body: &[u8], costs: &JsonCosts, limits: &Limits) -> Result<()> {
    let (mut values, mut bytes) = (0, 0_usize);
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b',' | b'[' | b'{')) {
        let byte = rest[at];
        rest = &rest[at + 1..];
        let cost = match byte {
            b'"' => {
                rest = behind_string(rest);
                continue;
            }
            b'{' => costs.object,
            b'[' => costs.list,
            _ => costs.comma,
        };
        values += 1;
        bytes += cost;
    }
    check(values, limits.records_max.saturating_mul(PARTS_PER_RECORD), "JSON values")?;
    Memory::new(limits).take(bytes)
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

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = [bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8];
        [&[number << 3 | 2][..], &length, bytes].concat()
    }

    #[test]
    fn many_small_things_weigh_more_than_their_bytes() {
        let limits = Limits { memory_bytes_max: 100 << 10, ..Limits::default() };
        let is_enough = |outcome: Result<()>| match outcome {
            Ok(()) => true,
            Err(WireError::NeedsMemory(_)) => false,
            Err(other) => panic!("{other}"),
        };
        let in_scope = |content: Vec<u8>| field(1, &field(2, &content));
        let records = |count| in_scope(field(2, b"").repeat(count));
        assert!(is_enough(check_otlp(&records(150), Signal::Logs, &limits)));
        assert!(!is_enough(check_otlp(&records(250), Signal::Logs, &limits)));
        let attributes = |count| in_scope(field(2, &field(6, b"").repeat(count)));
        assert!(is_enough(check_otlp(&attributes(700), Signal::Logs, &limits)));
        assert!(!is_enough(check_otlp(&attributes(900), Signal::Logs, &limits)));
        let buckets = |count| in_scope(field(2, &field(10, &field(1, &field(8, &field(2, &vec![0; count]))))));
        assert!(is_enough(check_otlp(&buckets(10_000), Signal::Metrics, &limits)));
        assert!(!is_enough(check_otlp(&buckets(14_000), Signal::Metrics, &limits)));
        assert!(is_enough(check_json_messages("{},".repeat(300).as_bytes(), &limits)));
        assert!(!is_enough(check_json_messages("{},".repeat(400).as_bytes(), &limits)));
        assert!(!is_enough(check_json("{},".repeat(300).as_bytes(), &limits)));
    }

    #[test]
    fn many_small_things_are_too_many() {
        let limits = Limits { records_max: 10, ..Limits::default() };
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
