//! From text to [`TestFile`], with a complaint for every mistake.

use super::file::{AlertCase, ExpectedAlert, ExpectedSample, ExpressionCase, InputSeries, Test, TestFile};
use br_model::Labels;
use br_rules::Complaint;
use br_rules::yaml::{self, Node, NodeKind};
use std::collections::BTreeMap;

const MINUTE_MS: i64 = 60_000;

/// Reads a file of unit tests; an unknown field is a mistake.
pub fn read(text: &str) -> Result<TestFile, Vec<Complaint>> {
    let mut reader = Reader::default();
    let document = yaml::read(text).map_err(|complaint| vec![complaint])?;
    let file = reader.file(document.root.as_ref());
    reader.complaints.sort_by_key(|complaint| complaint.position);
    if reader.complaints.is_empty() { Ok(file) } else { Err(reader.complaints) }
}

#[derive(Default)]
struct Reader {
    complaints: Vec<Complaint>,
}

type Fields<'n> = BTreeMap<&'n str, &'n Node>;

impl Reader {
    fn complain(&mut self, node: &Node, message: impl Into<String>) {
        self.complaints.push(Complaint::error(node.position, message));
    }

    fn file(&mut self, root: Option<&Node>) -> TestFile {
        let known = ["rule_files", "evaluation_interval", "fuzzy_compare", "group_eval_order", "tests"];
        let fields = root.map(|root| self.fields(root, "a file of unit tests", &known)).unwrap_or_default();
        let interval_ms = self.duration(&fields, "evaluation_interval");
        let evaluation_interval_ms = if interval_ms == 0 { MINUTE_MS } else { interval_ms };
        let mut file = TestFile {
            rule_files: self.texts(&fields, "rule_files"),
            evaluation_interval_ms,
            fuzzy_compare: self.boolean(&fields, "fuzzy_compare"),
            group_eval_order: self.texts(&fields, "group_eval_order"),
            tests: Vec::new(),
        };
        for (at, name) in file.group_eval_order.iter().enumerate() {
            if file.group_eval_order[..at].contains(name) {
                self.complain(fields["group_eval_order"], format!("group name repeated in evaluation order: {name}"));
            }
        }
        file.tests = self.items(&fields, "tests").iter().map(|node| self.test(node, evaluation_interval_ms)).collect();
        file
    }

    fn test(&mut self, node: &Node, evaluation_interval_ms: i64) -> Test {
        let known = [
            "interval",
            "input_series",
            "alert_rule_test",
            "promql_expr_test",
            "external_labels",
            "external_url",
            "name",
            "start_timestamp",
        ];
        let fields = self.fields(node, "a test", &known);
        let interval_ms = self.duration(&fields, "interval");
        Test {
            position: node.position,
            name: Some(self.text(&fields, "name")).filter(|name| !name.is_empty()),
            interval_ms: if interval_ms == 0 { evaluation_interval_ms } else { interval_ms },
            start_ms: self.start(&fields),
            input_series: self.items(&fields, "input_series").iter().map(|node| self.input_series(node)).collect(),
            alerts: self.items(&fields, "alert_rule_test").iter().map(|node| self.alert_case(node)).collect(),
            expressions: self.items(&fields, "promql_expr_test").iter().map(|node| self.expression_case(node)).collect(),
            external_labels: Labels::from_pairs(self.pairs(&fields, "external_labels")),
            external_url: self.text(&fields, "external_url"),
        }
    }

    fn input_series(&mut self, node: &Node) -> InputSeries {
        let fields = self.fields(node, "an input series", &["series", "values"]);
        InputSeries { position: node.position, series: self.text(&fields, "series"), values: self.text(&fields, "values") }
    }

    fn alert_case(&mut self, node: &Node) -> AlertCase {
        let fields = self.fields(node, "an item of alert_rule_test", &["eval_time", "alertname", "exp_alerts"]);
        let alertname = self.text(&fields, "alertname");
        if alertname.is_empty() {
            self.complain(node, "an item of alert_rule_test needs an alertname");
        }
        let expected = self.items(&fields, "exp_alerts").iter().map(|node| {
            let fields = self.fields(node, "an expected alert", &["exp_labels", "exp_annotations"]);
            let mut labels = self.pairs(&fields, "exp_labels");
            labels.insert("alertname".to_owned(), alertname.clone());
            ExpectedAlert { labels, annotations: self.pairs(&fields, "exp_annotations") }
        });
        let expected = expected.collect();
        AlertCase { position: node.position, eval_time_ms: self.duration(&fields, "eval_time"), alertname, expected }
    }

    fn expression_case(&mut self, node: &Node) -> ExpressionCase {
        let fields = self.fields(node, "an item of promql_expr_test", &["expr", "eval_time", "exp_samples"]);
        let expected = self.items(&fields, "exp_samples").iter().map(|node| {
            let fields = self.fields(node, "an expected sample", &["labels", "value", "histogram"]);
            ExpectedSample {
                labels: self.text(&fields, "labels"),
                value: self.float(&fields, "value"),
                histogram: self.text(&fields, "histogram"),
            }
        });
        let expected = expected.collect();
        let expression = self.text(&fields, "expr");
        ExpressionCase { position: node.position, eval_time_ms: self.duration(&fields, "eval_time"), expression, expected }
    }

    /// Seconds since 1970, or RFC 3339.
    fn start(&mut self, fields: &Fields<'_>) -> i64 {
        let text = self.text(fields, "start_timestamp");
        if text.is_empty() {
            return 0;
        }
        let millis = match text.parse::<f64>() {
            Ok(seconds) => Some(seconds * 1000.0).filter(|millis| millis.abs() < 9e12).map(|millis| millis.round() as i64),
            Err(_) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        };
        millis.unwrap_or_else(|| {
            self.complain(fields["start_timestamp"], format!("{text:?} is neither seconds since 1970 nor a time of RFC 3339"));
            0
        })
    }

    fn duration(&mut self, fields: &Fields<'_>, name: &str) -> i64 {
        let text = self.text(fields, name);
        if text.is_empty() {
            return 0;
        }
        br_std::duration::parse(&text).map_or_else(
            |error| {
                self.complain(fields[name], format!("'{name}': {error}"));
                0
            },
            |duration| duration.as_millis() as i64,
        )
    }

    fn float(&mut self, fields: &Fields<'_>, name: &str) -> f64 {
        let text = self.text(fields, name);
        let is_plain = fields.get(name).is_none_or(|node| matches!(&*node.kind, NodeKind::Scalar { is_plain: true, .. }));
        if text.is_empty() && is_plain {
            return 0.0;
        }
        float(&text).filter(|_| is_plain).unwrap_or_else(|| {
            self.complain(fields[name], format!("'{name}' must be a number, not {text:?}"));
            0.0
        })
    }

    fn boolean(&mut self, fields: &Fields<'_>, name: &str) -> bool {
        let text = self.text(fields, name);
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => true,
            "" | "false" | "no" | "off" | "n" => false,
            _ => {
                self.complain(fields[name], format!("'{name}' must be true or false, not {text:?}"));
                false
            }
        }
    }

    /// Empty where there is none.
    fn text(&mut self, fields: &Fields<'_>, name: &str) -> String {
        let Some(node) = fields.get(name) else { return String::new() };
        if node.as_text().is_none() {
            self.complain(node, format!("'{name}' must be text, not {}", node.kind_name()));
        }
        node.as_text().unwrap_or_default().to_owned()
    }

    fn texts(&mut self, fields: &Fields<'_>, name: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for node in self.items(fields, name) {
            match node.as_text() {
                Some(text) => texts.push(text.to_owned()),
                None => self.complain(node, format!("'{name}' holds texts, not {}", node.kind_name())),
            }
        }
        texts
    }

    fn pairs(&mut self, fields: &Fields<'_>, name: &str) -> BTreeMap<String, String> {
        let Some(node) = fields.get(name).filter(|node| !node.is_null()) else { return BTreeMap::new() };
        let NodeKind::Mapping(pairs) = &*node.kind else {
            self.complain(node, format!("'{name}' must be a mapping, not {}", node.kind_name()));
            return BTreeMap::new();
        };
        let mut texts = BTreeMap::new();
        for (key, value) in pairs {
            match value.as_text() {
                Some(text) => {
                    texts.insert(key.as_text().unwrap_or_default().to_owned(), text.to_owned());
                }
                None => self.complain(value, format!("'{name}' holds texts, not {}", value.kind_name())),
            }
        }
        texts
    }

    fn items<'n>(&mut self, fields: &Fields<'n>, name: &str) -> &'n [Node] {
        let Some(node) = fields.get(name).copied().filter(|node| !node.is_null()) else { return &[] };
        if let NodeKind::Sequence(nodes) = &*node.kind {
            return nodes;
        }
        self.complain(node, format!("'{name}' must be a sequence, not {}", node.kind_name()));
        &[]
    }

    fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Fields<'n> {
        let mut fields = Fields::new();
        let NodeKind::Mapping(pairs) = &*node.kind else {
            if !node.is_null() {
                self.complain(node, format!("{what} must be a mapping, not {}", node.kind_name()));
            }
            return fields;
        };
        for (key, value) in pairs {
            let name = key.as_text().unwrap_or_default();
            if known.contains(&name) {
                fields.insert(name, value);
            } else {
                self.complain(key, format!("unknown field {name:?} in {what}; known are {}", known.join(", ")));
            }
        }
        fields
    }
}

/// A number as YAML 1.1 has them: `1_000`, `0x1f`, `.inf` and `.nan` too.
fn float(text: &str) -> Option<f64> {
    let (sign, plain) = match text.strip_prefix('-') {
        Some(plain) => (-1.0, plain),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match plain {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if plain == text => return Some(f64::NAN),
        _ => {}
    }
    let digits = plain.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(|number| sign * number as f64);
        }
    }
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if is_number { digits.parse::<f64>().ok().map(|number| sign * number) } else { None }
}
