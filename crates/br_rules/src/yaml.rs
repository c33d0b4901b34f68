//! YAML as a tree in which every node knows its line, so that each complaint about a file can say where.

use crate::complaint::{Complaint, Position};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

/// A document may hold this many nodes, those that aliases bring included: what an alias bomb runs into.
const NODES_MAX: usize = 2_000_000;
/// Sequences and mappings may stand this deep in each other.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Node {
    pub position: Position,
    pub kind: Rc<NodeKind>,
    /// This node and all below it.
    size: usize,
}

#[derive(Debug)]
pub enum NodeKind {
    /// `is_plain` tells `5` and `null` from `"5"` and `"null"`.
    Scalar {
        text: String,
        is_plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar. A plain null is the empty text, as in Go's YAML.
    pub fn as_text(&self) -> Option<&str> {
        match &*self.kind {
            NodeKind::Scalar { text, is_plain } if *is_plain && matches!(text.as_str(), "null" | "~" | "Null" | "NULL") => {
                Some("")
            }
            NodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// True for a missing value: `key:` with nothing behind it, or a null.
    pub fn is_null(&self) -> bool {
        matches!(&*self.kind, NodeKind::Scalar { is_plain: true, .. }) && self.as_text() == Some("")
    }

    /// What a complaint calls this node.
    pub fn kind_name(&self) -> &'static str {
        match &*self.kind {
            NodeKind::Scalar { .. } => "a scalar",
            NodeKind::Sequence(_) => "a sequence",
            NodeKind::Mapping(_) => "a mapping",
        }
    }
}

/// A container that is still being read.
struct Open {
    position: Position,
    anchor: usize,
    is_mapping: bool,
    /// For a mapping: keys and values in turn.
    children: Vec<Node>,
}

/// What a text holds: its first document, and where a second one begins, which is not looked at.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// `None` for a text without one.
    pub root: Option<Node>,
    pub second: Option<Position>,
}

/// Reads the first document of `text`.
pub fn read(text: &str) -> Result<Document, Complaint> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Complaint::error(position(*error.marker()), format!("not valid YAML: {}", error.info())))?;
        if matches!(event, Event::DocumentStart(_)) && builder.root.is_some() {
            return Ok(Document { root: builder.root, second: Some(position(span.start)) });
        }
        builder.take(event, span)?;
    }
    Ok(Document { root: builder.root, second: None })
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line() as u32, column: marker.col() as u32 + 1 }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Complaint> {
        let position = position(span.start);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let kind = NodeKind::Scalar { text: text.into_owned(), is_plain: style == ScalarStyle::Plain };
                self.close(Node { position, kind: Rc::new(kind), size: 1 }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.enter(position, anchor, false),
            Event::MappingStart(anchor, _) => self.enter(position, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.leave(open),
                None => Err(Complaint::error(position, "not valid YAML: an end without a start")),
            },
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned();
                let target =
                    target.ok_or_else(|| Complaint::error(position, "an alias of something that is not finished yet"))?;
                self.close(Node { position, ..target }, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
        }
    }

    fn enter(&mut self, position: Position, anchor: usize, is_mapping: bool) -> Result<(), Complaint> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Complaint::error(position, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(Open { position, anchor, is_mapping, children: Vec::new() });
        Ok(())
    }

    fn leave(&mut self, open: Open) -> Result<(), Complaint> {
        let size = 1 + open.children.iter().map(|child| child.size).sum::<usize>();
        let kind = if open.is_mapping { pairs(open.children)? } else { NodeKind::Sequence(open.children) };
        self.close(Node { position: open.position, kind: Rc::new(kind), size }, open.anchor)
    }

    /// Hands a finished node to the container around it.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Complaint> {
        // An alias counts as much as what it stands for: whoever walks the tree walks that too.
        self.nodes = self.nodes.saturating_add(node.size);
        if self.nodes > NODES_MAX {
            return Err(Complaint::error(node.position, format!("more than {NODES_MAX} nodes in one file")));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

/// Keys with their values. A key that comes twice is an error, as in Go's YAML.
fn pairs(children: Vec<Node>) -> Result<NodeKind, Complaint> {
    let mut first_lines: HashMap<String, u32> = HashMap::new();
    let mut pairs = Vec::with_capacity(children.len() / 2);
    let mut merged = Vec::new();
    let mut children = children.into_iter();
    while let (Some(key), Some(value)) = (children.next(), children.next()) {
        let Some(text) = key.as_text() else {
            return Err(Complaint::error(key.position, format!("a key must be text, not {}", key.kind_name())));
        };
        if let Some(line) = first_lines.insert(text.to_owned(), key.position.line) {
            return Err(Complaint::error(key.position, format!("key {text:?} is already there at line {line}")));
        }
        if matches!(&*key.kind, NodeKind::Scalar { text, is_plain: true } if text == "<<") {
            merged = sources_of_merge(&value)?;
            continue;
        }
        pairs.push((key, value));
    }
    for source in merged {
        let NodeKind::Mapping(more) = &*source.kind else { continue };
        for (key, value) in more {
            let text = key.as_text().unwrap_or_default().to_owned();
            if let Entry::Vacant(place) = first_lines.entry(text) {
                place.insert(key.position.line);
                pairs.push((key.clone(), value.clone()));
            }
        }
    }
    Ok(NodeKind::Mapping(pairs))
}

/// What stands behind `<<`: a mapping, or several of which the first wins. A mapping's own keys win over all.
fn sources_of_merge(value: &Node) -> Result<Vec<Node>, Complaint> {
    let sources = match &*value.kind {
        NodeKind::Sequence(nodes) => nodes.clone(),
        _ => vec![value.clone()],
    };
    match sources.iter().find(|node| !matches!(&*node.kind, NodeKind::Mapping(_))) {
        Some(node) => Err(Complaint::error(node.position, format!("<< takes mappings, not {}", node.kind_name()))),
        None => Ok(sources),
    }
}
