//! Rule files: from text to [`RuleFile`], with a complaint for every mistake.

use crate::complaint::{Complaint, Position};
use crate::file::{Group, LabelTemplate, Parsed, Rule, RuleFile, RuleKind};
use crate::template::Template;
use crate::yaml::{Node, NodeKind, read};
use br_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A rule file may be this long.
pub const FILE_BYTES_MAX: usize = 32 << 20;

/// Says what is wrong with an expression, or nothing. The caller brings the parser of its language.
pub type CheckExpression<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Which names are right for metrics, labels and annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameValidation {
    /// Any text that is not empty.
    #[default]
    Utf8,
    /// Letters, digits and underscores, as before Prometheus 3.
    Legacy,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ParseOptions {
    pub name_validation: NameValidation,
    /// Fields that rule files do not have are skipped, for those who keep notes of their own in them.
    pub ignore_unknown_fields: bool,
}

/// Reads a rule file. The rules that are right come out even when others are wrong.
pub fn parse(file_name: &str, text: &str, check_expression: CheckExpression<'_>) -> Parsed {
    parse_with(file_name, text, check_expression, ParseOptions::default())
}

/// [`parse`], with more or less strictness.
pub fn parse_with(file_name: &str, text: &str, check_expression: CheckExpression<'_>, options: ParseOptions) -> Parsed {
    let mut reader = Reader { check_expression, options, complaints: Vec::new() };
    let groups = reader.file(text);
    let mut complaints = reader.complaints;
    complaints.sort_by_key(|complaint| complaint.position);
    Parsed { file: RuleFile { name: file_name.to_owned(), groups }, complaints }
}

struct Reader<'a> {
    check_expression: CheckExpression<'a>,
    options: ParseOptions,
    complaints: Vec<Complaint>,
}

/// The fields of a mapping, each once, all known.
struct Fields<'n> {
    position: Position,
    by_name: BTreeMap<&'n str, &'n Node>,
}

impl Reader<'_> {
    fn complain(&mut self, position: Position, message: impl Into<String>) {
        self.complaints.push(Complaint::error(position, message));
    }

    fn is_legacy(&self) -> bool {
        self.options.name_validation == NameValidation::Legacy
    }

    fn file(&mut self, text: &str) -> Vec<Group> {
        if text.len() > FILE_BYTES_MAX {
            self.complain(Position { line: 1, column: 1 }, format!("longer than {} MiB", FILE_BYTES_MAX >> 20));
            return Vec::new();
        }
        let document = match read(text) {
            Ok(document) => document,
            Err(complaint) => {
                self.complaints.push(complaint);
                return Vec::new();
            }
        };
        if let Some(position) = document.second {
            let message = "a second document begins here; of a rule file only the first one counts";
            self.complaints.push(Complaint::warning(position, message));
        }
        let Some(root) = document.root.filter(|root| !root.is_null()) else { return Vec::new() };
        let Some(fields) = self.fields(&root, "a rule file", &["groups"]) else { return Vec::new() };
        let mut first_lines: HashMap<String, u32> = HashMap::new();
        let mut groups = Vec::new();
        for node in self.sequence(&fields, "groups") {
            let Some(group) = self.group(node) else { continue };
            if let Some(line) = first_lines.insert(group.name.clone(), group.position.line) {
                self.complain(group.position, format!("group name {:?} is already taken at line {line}", group.name));
                continue;
            }
            groups.push(group);
        }
        self.warn_of_duplicates(&groups);
        groups
    }

    fn group(&mut self, node: &Node) -> Option<Group> {
        let known = ["name", "interval", "query_offset", "limit", "labels", "rules"];
        let fields = self.fields(node, "a group", &known)?;
        let name = self.text(&fields, "name").unwrap_or_default();
        if name.is_empty() {
            self.complain(node.position, "a group must have a name");
            return None;
        }
        let interval = self.duration(&fields, "interval").filter(|interval| !interval.is_zero());
        let query_offset = self.duration(&fields, "query_offset");
        let limit = self.limit(&fields);
        let group_labels = self.templates(&fields, "labels", true);
        let rules = self.sequence(&fields, "rules").iter().filter_map(|node| self.rule(node, &group_labels)).collect();
        Some(Group { name, interval, query_offset, limit, rules, position: node.position })
    }

    fn rule(&mut self, node: &Node, group_labels: &[LabelTemplate]) -> Option<Rule> {
        let known = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
        let errors_before = self.complaints.len();
        let fields = self.fields(node, "a rule", &known)?;
        let record = self.text(&fields, "record").unwrap_or_default();
        let alert = self.text(&fields, "alert").unwrap_or_default();
        let expression = self.expression(&fields);
        let own_labels = self.templates(&fields, "labels", true);
        let kind = match (record.is_empty(), alert.is_empty()) {
            (false, true) => self.recording(&fields, record),
            (true, false) => RuleKind::Alerting {
                alert,
                hold: self.duration(&fields, "for").unwrap_or_default(),
                keep_firing_for: self.duration(&fields, "keep_firing_for").unwrap_or_default(),
                annotations: self.templates(&fields, "annotations", false),
            },
            (true, true) => {
                self.complain(node.position, "one of 'record' or 'alert' must be set");
                return None;
            }
            (false, false) => {
                self.complain(node.position, "only one of 'record' and 'alert' must be set");
                return None;
            }
        };
        let labels = merge(group_labels, own_labels);
        if matches!(kind, RuleKind::Alerting { .. }) {
            self.check_templates(&fields);
        }
        let is_clean = self.complaints.len() == errors_before;
        is_clean.then_some(Rule { kind, expression, labels, position: node.position })
    }

    fn recording(&mut self, fields: &Fields<'_>, record: String) -> RuleKind {
        for name in ["for", "keep_firing_for", "annotations"] {
            let Some(node) = fields.by_name.get(name) else { continue };
            let is_empty = match &*node.kind {
                NodeKind::Scalar { .. } => self.duration(fields, name).unwrap_or_default().is_zero() && name != "annotations",
                NodeKind::Mapping(pairs) => pairs.is_empty(),
                NodeKind::Sequence(_) => false,
            };
            if !is_empty && !node.is_null() {
                self.complain(node.position, format!("invalid field '{name}' in recording rule"));
            }
        }
        let position = fields.by_name.get("record").map_or(fields.position, |node| node.position);
        if record.contains(['{', '}']) {
            self.complain(position, format!("braces present in the recording rule name; should it be in expr?: {record}"));
        } else if self.is_legacy() && !is_legacy_metric_name(&record) {
            self.complain(position, format!("invalid recording rule name: {record:?}"));
        }
        RuleKind::Recording { record }
    }

    fn expression(&mut self, fields: &Fields<'_>) -> String {
        let expression = self.text(fields, "expr").unwrap_or_default();
        let position = fields.by_name.get("expr").map_or(fields.position, |node| node.position);
        if expression.trim().is_empty() {
            self.complain(position, "field 'expr' must be set in rule");
        } else if let Err(message) = (self.check_expression)(&expression) {
            self.complain(position, format!("could not parse expression: {message}"));
        }
        expression
    }

    /// Labels or annotations, sorted by name.
    fn templates(&mut self, fields: &Fields<'_>, name: &str, is_label: bool) -> Vec<LabelTemplate> {
        let Some(node) = fields.by_name.get(name) else { return Vec::new() };
        let NodeKind::Mapping(pairs) = &*node.kind else {
            if !node.is_null() {
                self.complain(node.position, format!("'{name}' must be a mapping, not {}", node.kind_name()));
            }
            return Vec::new();
        };
        let mut templates = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let label = key.as_text().unwrap_or_default();
            let word = if is_label { "label" } else { "annotation" };
            let is_foreign = self.is_legacy() && !is_legacy_label_name(label);
            if label.is_empty() || is_foreign || (is_label && label == METRIC_NAME) {
                self.complain(key.position, format!("invalid {word} name: {label:?}"));
                continue;
            }
            match value.as_text() {
                Some(text) => templates.push(LabelTemplate { name: label.to_owned(), template: Template::new(text) }),
                None => self.complain(value.position, format!("{word} {label:?} must be text, not {}", value.kind_name())),
            }
        }
        templates.sort_by(|left, right| left.name.cmp(&right.name));
        templates
    }

    /// A template that cannot be parsed is found when the file is loaded, not when the alert fires.
    fn check_templates(&mut self, fields: &Fields<'_>) {
        for name in ["labels", "annotations"] {
            let Some(NodeKind::Mapping(pairs)) = fields.by_name.get(name).map(|node| &*node.kind) else { continue };
            for (key, value) in pairs {
                let Some(Err(error)) = value.as_text().map(|text| Template::new(text).check()) else { continue };
                let word = name.trim_end_matches('s');
                self.complain(value.position, format!("{word} {:?}: {error}", key.as_text().unwrap_or_default()));
            }
        }
    }

    fn limit(&mut self, fields: &Fields<'_>) -> usize {
        let Some(text) = self.text(fields, "limit") else { return 0 };
        let Ok(limit) = text.parse::<i64>() else {
            let position = fields.by_name.get("limit").map_or(fields.position, |node| node.position);
            self.complain(position, format!("'limit' must be a whole number, not {text:?}"));
            return 0;
        };
        usize::try_from(limit).unwrap_or(0)
    }

    fn duration(&mut self, fields: &Fields<'_>, name: &str) -> Option<Duration> {
        let node = *fields.by_name.get(name)?;
        let text = self.text(fields, name).filter(|text| !text.is_empty())?;
        match br_std::duration::parse(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.complain(node.position, format!("'{name}': {error}"));
                None
            }
        }
    }

    fn text(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        let node = *fields.by_name.get(name)?;
        let text = node.as_text();
        if text.is_none() {
            self.complain(node.position, format!("'{name}' must be text, not {}", node.kind_name()));
        }
        text.map(str::to_owned)
    }

    fn sequence<'n>(&mut self, fields: &Fields<'n>, name: &str) -> &'n [Node] {
        let Some(node) = fields.by_name.get(name).copied() else { return &[] };
        if let NodeKind::Sequence(nodes) = &*node.kind {
            return nodes;
        }
        if !node.is_null() {
            self.complain(node.position, format!("'{name}' must be a sequence, not {}", node.kind_name()));
        }
        &[]
    }

    fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let NodeKind::Mapping(pairs) = &*node.kind else {
            self.complain(node.position, format!("{what} must be a mapping, not {}", node.kind_name()));
            return None;
        };
        let mut by_name = BTreeMap::new();
        for (key, value) in pairs {
            let name = key.as_text().unwrap_or_default();
            if !known.contains(&name) {
                if self.options.ignore_unknown_fields {
                    continue;
                }
                self.complain(key.position, format!("unknown field {name:?} in {what}; known are {}", known.join(", ")));
                continue;
            }
            by_name.insert(name, value);
        }
        Some(Fields { position: node.position, by_name })
    }

    /// The same rule twice in one file doubles its work and, for recordings, its samples.
    fn warn_of_duplicates(&mut self, groups: &[Group]) {
        let mut first_lines: HashMap<String, u32> = HashMap::new();
        for rule in groups.iter().flat_map(|group| &group.rules) {
            if let Some(line) = first_lines.insert(rule.identity(), rule.position.line) {
                let message = format!("rule {:?} with these labels is already there at line {line}", rule.name());
                self.complaints.push(Complaint::duplicate(rule.position, message));
            }
        }
    }
}

/// Both sorted by name; of one name the rule's own wins.
fn merge(group_labels: &[LabelTemplate], own_labels: Vec<LabelTemplate>) -> Vec<LabelTemplate> {
    let mut merged: BTreeMap<String, LabelTemplate> =
        group_labels.iter().map(|label| (label.name.clone(), label.clone())).collect();
    merged.extend(own_labels.into_iter().map(|label| (label.name.clone(), label)));
    merged.into_values().collect()
}
