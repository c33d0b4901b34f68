//! Elasticsearch's bulk API, as log shippers send to it: lines of actions, each with its document on the next line.
//!
//! A document is a log record (see [`crate::document`]); each action has its own outcome in the answer. What is stored is never
//! changed: an `update` or `delete` is refused, and an `_id` makes no document unique.
//!
//! Sources: Elasticsearch "Bulk API", "Optimistic concurrency control" (the shape of an item), "ECS Field Reference".

use crate::amount::{Memory, Room};
use crate::document::{self, Shape};
use crate::{Decoded, Limits, Result, WireError};
use br_model::{LogBatch, LogRecord, Resource, ResourceLogs};
use br_std::Nanos;
use br_std::hash::hash128;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

const SHAPE: Shape<'_> = Shape {
    time: &["@timestamp", "timestamp", "time", "ts", "datetime", "date"],
    strict_time: &["@timestamp"],
    body: &["message", "msg", "log", "event.original", "body", "text"],
    stream: &[],
};

/// What an action asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Index,
    /// Refused.
    Update,
    /// Refused; it has no document.
    Delete,
}

impl Action {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "create" => Self::Create,
            "index" => Self::Index,
            "update" => Self::Update,
            "delete" => Self::Delete,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Why an action was not carried out, in Elasticsearch's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub error_type: &'static str,
    pub reason: String,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub action: Action,
    pub index: Arc<str>,
    /// As the sender gave it.
    pub id: Option<String>,
    pub refusal: Option<Refusal>,
}

/// All actions of a body, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    pub items: Vec<Item>,
    /// For each record of the batch, in the batch's order, the place of its item.
    record_items: Vec<u32>,
}

impl Items {
    /// Refuses the record at a place of the batch, which was good as far as it could be read.
    pub fn refuse_record(&mut self, place: usize, reason: String) {
        let item = self.record_items.get(place).and_then(|item| self.items.get_mut(*item as usize));
        if let Some(item) = item {
            item.refusal = Some(Refusal { error_type: PARSING, reason });
        }
    }
}

/// Documents and what became of each action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bulk {
    pub logs: LogBatch,
    pub items: Items,
}

const PARSING: &str = "document_parsing_exception";
const ILLEGAL: &str = "illegal_argument_exception";
/// An item's own fields, with its answer.
const ITEM_BYTES: usize = 256;

/// Reads a body that is unpacked. `index` is that of the path, for actions that name none.
pub fn decode(body: &[u8], index: &str, received: Nanos, limits: &Limits) -> Result<Decoded<Bulk>> {
    crate::amount::check_json(body, limits)?;
    let mut reader = Reader::new(index, received, limits);
    let mut waiting: Option<usize> = None;
    for (at, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() && waiting.is_none() {
            continue;
        }
        waiting = match waiting {
            Some(item) => reader.after(item, line, at + 1)?,
            None => reader.action(line, at + 1)?,
        };
    }
    if let Some(item) = waiting {
        reader.refuse(item, ILLEGAL, "the body ends where the document should follow".to_owned());
    }
    if reader.items.is_empty() {
        return Err(WireError::malformed("bulk: the body has no action: lines of actions and documents are expected"));
    }
    Ok(reader.finish())
}

struct Reader<'a> {
    default_index: Arc<str>,
    received: Nanos,
    limits: &'a Limits,
    room: Room,
    memory: Memory,
    items: Vec<Item>,
    /// The last index that was named: most actions name the same.
    last_index: Arc<str>,
    groups: Vec<Group>,
    by_resource: HashMap<u128, usize, foldhash::fast::FixedState>,
}

/// Records of one sender, with the places of their items.
struct Group {
    resource: Resource,
    records: Vec<LogRecord>,
    items: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn new(index: &str, received: Nanos, limits: &'a Limits) -> Self {
        let default_index: Arc<str> = index.into();
        Self {
            last_index: default_index.clone(),
            default_index,
            received,
            limits,
            room: Room::new(limits.records_max, "actions"),
            memory: Memory::new(limits),
            items: Vec::new(),
            groups: Vec::new(),
            by_resource: HashMap::default(),
        }
    }

    /// Takes a line that should be an action. Gives the place of its item where a document should follow.
    fn action(&mut self, line: &[u8], number: usize) -> Result<Option<usize>> {
        self.room.take(1)?;
        self.memory.take(ITEM_BYTES)?;
        let place = self.items.len();
        let Some((action, about)) = parse_action(line) else {
            self.push(Action::Index, &Map::new());
            let reason = format!("line {number}: no action: {{\"create\": {{}}}} or {{\"index\": {{}}}} is expected");
            self.refuse(place, ILLEGAL, reason);
            return Ok(Some(place));
        };
        self.push(action, &about);
        let refused = match action {
            Action::Create | Action::Index => None,
            Action::Update => Some("what is stored is not changed: update is not supported"),
            Action::Delete => Some("what is stored is not changed: delete is not supported"),
        };
        if let Some(reason) = refused {
            self.refuse(place, ILLEGAL, format!("line {number}: {reason}"));
        }
        Ok((action != Action::Delete).then_some(place))
    }

    fn push(&mut self, action: Action, about: &Map<String, Value>) {
        let index = match about.get("_index").and_then(Value::as_str) {
            None => self.default_index.clone(),
            Some(name) if name == &*self.last_index => self.last_index.clone(),
            Some(name) => {
                self.last_index = name.into();
                self.last_index.clone()
            }
        };
        let id = about.get("_id").filter(|id| !id.is_null()).map(crate::json::text);
        self.items.push(Item { action, index, id, refusal: None });
    }

    /// Takes the line behind an action. Behind one that could not be read an action may stand instead of its document.
    fn after(&mut self, item: usize, line: &[u8], number: usize) -> Result<Option<usize>> {
        if self.items[item].refusal.is_some() {
            let is_update = self.items[item].action == Action::Update;
            return if !is_update && parse_action(line).is_some() { self.action(line, number) } else { Ok(None) };
        }
        match document::read(line, &SHAPE, self.received, &mut self.memory, self.limits)? {
            Ok((resource, record)) => self.keep(item, resource, record),
            Err(wrong) => self.refuse(item, PARSING, format!("line {number}: {}", wrong.reason)),
        }
        Ok(None)
    }

    fn keep(&mut self, item: usize, resource: Resource, mut record: LogRecord) {
        let index = &self.items[item].index;
        if !index.is_empty() && record.attributes.len() < self.limits.attributes_max {
            // In front: what is missing of a record stands behind all else.
            record.attributes.0.insert(0, ("elastic.index".to_owned(), (&**index).into()));
        }
        let at = match self.groups.last() {
            Some(last) if last.resource == resource => self.groups.len() - 1,
            _ => self.group(resource),
        };
        let group = &mut self.groups[at];
        group.records.push(record);
        group.items.push(u32::try_from(item).unwrap_or(u32::MAX));
    }

    fn group(&mut self, resource: Resource) -> usize {
        let mut text = String::new();
        for (key, value) in &resource.attributes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{key}\u{1f}");
            let _ = value.write_json(&mut text);
            text.push('\u{1e}');
        }
        let next = self.groups.len();
        let at = *self.by_resource.entry(hash128(text.as_bytes())).or_insert(next);
        if at == next {
            self.groups.push(Group { resource, records: Vec::new(), items: Vec::new() });
        }
        at
    }

    fn refuse(&mut self, item: usize, error_type: &'static str, reason: String) {
        if let Some(item) = self.items.get_mut(item)
            && item.refusal.is_none()
        {
            item.refusal = Some(Refusal { error_type, reason });
        }
    }

    fn finish(self) -> Decoded<Bulk> {
        let mut decoded = Decoded::new(Bulk::default());
        for (at, item) in self.items.iter().enumerate() {
            if let Some(refusal) = &item.refusal {
                decoded.reject(at, 1, refusal.reason.clone());
            }
        }
        let bulk = &mut decoded.value;
        bulk.items.items = self.items;
        for group in self.groups {
            bulk.items.record_items.extend(group.items);
            let resource = Arc::new(group.resource);
            bulk.logs.groups.push(ResourceLogs { resource, scope: Arc::default(), records: group.records });
        }
        decoded
    }
}

/// `{"create": {"_index": "logs"}}`
fn parse_action(line: &[u8]) -> Option<(Action, Map<String, Value>)> {
    // A document is not read twice for this: an action is short and has one key.
    const ACTION_BYTES_MAX: usize = 4096;
    if line.len() > ACTION_BYTES_MAX {
        return None;
    }
    let Ok(Value::Object(map)) = serde_json::from_slice(line) else { return None };
    let mut pairs = map.into_iter();
    let (name, about) = pairs.next()?;
    let action = Action::of(&name).filter(|_| pairs.next().is_none())?;
    match about {
        Value::Object(about) => Some((action, about)),
        Value::Null => Some((action, Map::new())),
        _ => None,
    }
}

/// What the sender is answered. `is_short` leaves out what most shippers filter out anyway: all but status and error.
pub fn answer(items: &Items, took_ms: u64, is_short: bool) -> String {
    let mut out = String::with_capacity(64 + items.items.len() * if is_short { 32 } else { 224 });
    let has_errors = items.items.iter().any(|item| item.refusal.is_some());
    // Writing to a String cannot fail.
    let _ = write!(out, "{{\"took\":{took_ms},\"errors\":{has_errors},\"items\":[");
    for (at, item) in items.items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let _ = write!(out, "{{\"{}\":{{", item.action.as_str());
        if !is_short {
            let id = item.id.clone().unwrap_or_else(|| made_id(at));
            let _ = write!(out, "\"_index\":{},\"_id\":{},", Value::from(&*item.index), Value::from(id));
        }
        match &item.refusal {
            Some(Refusal { error_type, reason }) => {
                let _ = write!(out, "\"status\":400,\"error\":{}", json!({ "type": error_type, "reason": reason }));
            }
            None if is_short => out.push_str("\"status\":201"),
            None => {
                out.push_str("\"_version\":1,\"result\":\"created\",\"_shards\":{\"total\":1,\"successful\":1,\"failed\":0},");
                out.push_str("\"_seq_no\":0,\"_primary_term\":1,\"status\":201");
            }
        }
        out.push_str("}}");
    }
    out.push_str("]}");
    out
}

/// Clients want one; nothing can be asked for by it.
fn made_id(at: usize) -> String {
    format!("bellrock-{at}")
}

/// The answer to a request of which nothing was kept.
pub fn error(status: u16, error_type: &str, reason: &str) -> String {
    let cause = json!({ "type": error_type, "reason": reason });
    json!({ "error": { "root_cause": [cause], "type": error_type, "reason": reason }, "status": status }).to_string()
}

/// A document that was sent by itself, as a bulk body: `body` in one line behind its action.
pub fn bulk_of_document(body: &[u8], id: Option<&str>) -> Result<Vec<u8>> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| WireError::Malformed(format!("the document is no JSON: {error}")))?;
    let about = id.map_or_else(|| json!({}), |id| json!({ "_id": id }));
    Ok(format!("{}\n{document}\n", json!({ "create": about })).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_text(body: &str) -> Decoded<Bulk> {
        decode(body.as_bytes(), "of-path", Nanos(7), &Limits::default()).expect("a bulk body")
    }

    #[test]
    fn each_action_has_its_outcome() {
        let body = r#"{"create":{"_index":"logs","_id":"a"}}
{"@timestamp":"2026-01-02T10:00:00Z","message":"one","service":{"name":"b"}}
{"index":{}}
{"message":"two"}
{"delete":{"_id":"x"}}
{"update":{"_id":"x"}}
{"doc":{"message":"changed"}}
{"create":{}}
{"message": }
{"create":{}}
{"@timestamp":"soon"}
no action
{"message":"its document"}
{"nor this": 1}
{"create":{}}
{"message":"three","service":{"name":"b"}}

{"create":{}}"#;
        let mut decoded = decode_text(body);
        let bulk = &mut decoded.value;
        let lines: Vec<&str> =
            bulk.logs.groups.iter().flat_map(|group| &group.records).map(|record| record.body.as_str()).collect();
        assert_eq!(lines, ["one", "three", "two"], "by sender");
        let outcomes = |items: &Items| -> Vec<Option<&'static str>> {
            items.items.iter().map(|item| item.refusal.as_ref().map(|refusal| refusal.error_type)).collect()
        };
        let (parsing, illegal) = (Some(PARSING), Some(ILLEGAL));
        let expect = [None, None, illegal, illegal, parsing, parsing, illegal, illegal, None, illegal];
        assert_eq!(outcomes(&bulk.items), expect);
        assert_eq!((decoded.rejected_count, decoded.rejected[2].index), (7, 4));
        assert!(decoded.rejected[2].reason.contains("line 9") && decoded.rejected[2].reason.contains("column 13"));
        assert_eq!((&*bulk.items.items[0].index, &*bulk.items.items[1].index), ("logs", "of-path"));
        bulk.items.refuse_record(2, "too old".into());
        assert_eq!(outcomes(&bulk.items)[1], parsing, "the third record came second");
    }

    #[test]
    fn answers() {
        let items = decode_text("{\"create\":{\"_id\":\"a\"}}\n{\"message\":\"x\"}\n{\"index\":{}}\n[]\n").value.items;
        let told: Value = serde_json::from_str(&answer(&items, 3, false)).expect("JSON");
        assert_eq!((&told["took"], &told["errors"]), (&json!(3), &json!(true)));
        let created = &told["items"][0]["create"];
        assert_eq!((&created["status"], &created["_id"], &created["_index"]), (&json!(201), &json!("a"), &json!("of-path")));
        let refused = &told["items"][1]["index"];
        assert_eq!((&refused["status"], &refused["error"]["type"]), (&json!(400), &json!(PARSING)));
        assert_eq!(
            answer(&Items { items: items.items[..1].to_vec(), record_items: vec![0] }, 0, true),
            r#"{"took":0,"errors":false,"items":[{"create":{"status":201}}]}"#
        );
    }

    #[test]
    fn a_document_by_itself() {
        let body = bulk_of_document(b"{\n \"message\": \"x\"\n}", Some("7")).expect("JSON");
        let decoded = decode(&body, "logs", Nanos(7), &Limits::default()).expect("a bulk body");
        assert_eq!(decoded.value.items.items[0].id.as_deref(), Some("7"));
        let record = &decoded.value.logs.groups[0].records[0];
        assert_eq!((record.body.as_str(), record.attributes.get_str("elastic.index")), ("x", Some("logs")));
        assert!(bulk_of_document(b"{", None).is_err());
        assert!(decode(b"\n\n", "", Nanos(7), &Limits::default()).is_err());
    }
}
