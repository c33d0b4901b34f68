//! Random expressions that are well typed, and mean the same in Prometheus 2.42 and in 3.14.
//!
//! What differs between the two is left out where it is made, each time with the entry of Prometheus' changelog.

use super::data::{SPAN_SECS, START_MS};
use crate::input::Seeded;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    Vector,
    Matrix,
}

/// The milliseconds within a second at which an expression is evaluated: the query's own steps have [`HALF`], those of a
/// subquery are multiples of whole seconds and have [`WHOLE`].
///
/// 3.0: "Range selectors and the lookback exclude samples coinciding with the left boundary" (changelog 3.0.0, CHANGE).
/// So nothing may lie exactly there. Samples lie at 1 to 499 ms after a whole second, and the range of a subquery is such that
/// its left border falls between the whole seconds at which its inner expression is evaluated.
type Phase = u8;
pub(super) const HALF: Phase = 1;
const WHOLE: Phase = 0;

/// An expression as text around its parts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    phase: Phase,
    /// Its values must be equal bit by bit, since a jump in a function around it would make much of a rounding.
    is_exact: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Inner(Node),
}

impl Node {
    pub(super) fn text(&self) -> String {
        self.parts.iter().map(|part| if let Part::Inner(node) = part { node.text() } else { part.own_text() }).collect()
    }

    /// Smaller expressions that may show the same, the smallest first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let Part::Inner(inner) = part else { continue };
            for node in inner.fitting(self) {
                found.push(node);
            }
            for node in inner.smaller() {
                let mut whole = self.clone();
                whole.parts[at] = Part::Inner(node);
                found.push(whole);
            }
        }
        found.sort_by_key(|node| node.text().len());
        found.dedup_by_key(|node| node.text());
        found
    }

    /// Itself or what is inside, where it can stand in for `place`.
    fn fitting(&self, place: &Self) -> Vec<Self> {
        let fits = self.kind == place.kind && self.phase == place.phase && (self.is_exact || !place.is_exact);
        let inner = self.parts.iter().filter_map(|part| if let Part::Inner(node) = part { Some(node) } else { None });
        fits.then(|| self.clone()).into_iter().chain(inner.flat_map(|node| node.fitting(place))).collect()
    }
}

impl Part {
    fn own_text(&self) -> String {
        if let Self::Text(text) = self { text.clone() } else { String::new() }
    }
}

/// What is wanted of an expression.
#[derive(Clone, Copy)]
struct Want {
    depth: u32,
    phase: Phase,
    is_exact: bool,
}

impl Want {
    fn inner(self) -> Self {
        Self { depth: self.depth.saturating_sub(1), ..self }
    }

    fn exact(self) -> Self {
        Self { is_exact: true, ..self }
    }
}

macro_rules! node {
    ($want:expr, $kind:expr, $($part:expr),+) => {
        Node { kind: $kind, phase: $want.phase, is_exact: $want.is_exact, parts: vec![$(Part::from($part)),+] }
    };
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Node> for Part {
    fn from(node: Node) -> Self {
        Self::Inner(node)
    }
}

/// A query: an expression and when it is asked for.
pub(super) struct Case {
    pub(super) node: Node,
    /// Start, end and step in milliseconds; without a step it is an instant query at the start.
    pub(super) start_ms: i64,
    pub(super) range: Option<(i64, i64)>,
}

pub(super) fn case(seeded: &mut Seeded) -> Case {
    let mut grammar = Grammar { seeded };
    let want = Want { depth: 1 + grammar.seeded.below(4) as u32, phase: HALF, is_exact: false };
    let node = if grammar.seeded.percent(7) { grammar.scalar(want) } else { grammar.vector(want) };
    // Some are asked for before the first sample and after the last.
    let start_ms = START_MS + (grammar.seeded.below(SPAN_SECS as u64 + 900) as i64 - 300) * 1000 + 500;
    let range = grammar.seeded.percent(50).then(|| {
        let step_ms = *grammar.seeded.pick(&[1, 7, 15, 30, 60, 60, 137, 600]) * 1000;
        (start_ms + step_ms * grammar.seeded.below(40) as i64 + grammar.seeded.below(2) as i64 * 300, step_ms)
    });
    Case { node, start_ms, range }
}

struct Grammar<'s> {
    seeded: &'s mut Seeded,
}

const LABELS: [&str; 6] = ["job", "instance", "zone", "code", "color", "le"];
const COUNTERS: [&str; 4] = ["requests_total", "jobs_total", "latency_count", "latency_bucket"];
const METRICS: [&str; 8] = ["load", "up_flag", "level", "level", "jobs_total", "requests_total", "latency_sum", "owner_info"];
const MATCHERS: [&str; 16] = [
    r#"job="api""#,
    r#"job=~"api|web""#,
    r#"job!="db""#,
    r#"job!~"a.+""#,
    r#"instance="i0""#,
    r#"instance=~"i[12]""#,
    r#"instance!~"i0|i3""#,
    r#"zone="""#,
    r#"zone!="""#,
    r#"zone=~".+""#,
    r#"zone=~"|a""#,
    r#"missing="""#,
    r#"missing="x""#,
    r#"code=~"4..|500""#,
    r#"color="red""#,
    r#"zone=~".*""#,
];

/// Finite and of one sign. Of these only are `avg`, `avg_over_time`, `stddev` and `stdvar` asked: since 2.54 and 3.0 sums are
/// compensated for what rounding loses (changelog, ENHANCEMENT: "Kahan summation"), so that a mean of values that cancel out
/// is 0 where 2.42 has 1e-17; and the deviation of a single infinity is NaN where 2.42 has 0 (3.0.0, BUGFIX).
const STEADY: [&str; 5] = ["load", "up_flag", "jobs_total", "requests_total", "latency_sum"];

/// Continuous: a rounding stays one. Those whose result grows out of all bounds near a pole are asked for exact values only.
const SMOOTH_FUNCTIONS: [&str; 8] = ["deg", "rad", "atan", "asinh", "tanh", "sqrt", "exp", "abs"];
const EXACT_FUNCTIONS: [&str; 13] =
    ["ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "acosh", "atanh", "timestamp", "sgn", "abs"];
const JUMPS: [&str; 4] = ["ceil", "floor", "sgn", "abs"];
const CALENDAR: [&str; 8] = ["hour", "minute", "month", "year", "day_of_month", "day_of_week", "day_of_year", "days_in_month"];
/// Of a range; 2.42 lacks `first_over_time`, `mad_over_time` and the `ts_of_` family (changelog 3.x, FEATURE), and calls
/// `double_exponential_smoothing` `holt_winters` (3.0.0, CHANGE).
const EXACT_OVER_TIME: [&str; 8] = [
    "min_over_time",
    "max_over_time",
    "last_over_time",
    "count_over_time",
    "present_over_time",
    "absent_over_time",
    "changes",
    "resets",
];
const ROUNDED_OVER_TIME: [&str; 6] = ["sum_over_time", "stddev_over_time", "stdvar_over_time", "delta", "idelta", "deriv"];

impl Grammar<'_> {
    fn word(&mut self, words: &[&'static str]) -> &'static str {
        self.seeded.pick::<&'static str>(words)
    }

    fn scalar(&mut self, want: Want) -> Node {
        let choice = if want.depth == 0 { self.seeded.below(4) } else { self.seeded.below(9) };
        match choice {
            0..=2 => {
                let number = self.number();
                node!(want, Kind::Scalar, number)
            }
            3 => node!(want, Kind::Scalar, self.word(&["time()", "pi()"])),
            4 | 5 => node!(want, Kind::Scalar, "scalar(", self.vector(want.inner()), ")"),
            6 => {
                let op = self.word(&[" == bool ", " < bool ", " >= bool ", " != bool "]);
                let (lhs, rhs) = (self.scalar(want.inner().exact()), self.scalar(want.inner().exact()));
                node!(want, Kind::Scalar, "(", lhs, op, rhs, ")")
            }
            7 => node!(want, Kind::Scalar, "-(", self.scalar(want.inner()), ")"),
            _ => {
                let op = self.word(&[" + ", " - ", " * ", " / ", " % ", " ^ "]);
                let exact = Want { is_exact: want.is_exact || op != " * ", ..want.inner() };
                let (lhs, rhs) = (self.scalar(exact), self.scalar(exact));
                if want.is_exact && matches!(op, " ^ ") {
                    return lhs;
                }
                node!(want, Kind::Scalar, "(", lhs, op, rhs, ")")
            }
        }
    }

    fn number(&mut self) -> &'static str {
        self.word(&[
            "0",
            "1",
            "2",
            "3",
            "0.5",
            "1e3",
            "7.25",
            "-1",
            "-2.5",
            "10",
            "0x1f",
            "100",
            "Inf",
            "-Inf",
            "NaN",
            "1e-3",
            "12345.678",
        ])
    }

    fn vector(&mut self, want: Want) -> Node {
        if want.depth == 0 {
            return self.selector(want, &METRICS);
        }
        match self.seeded.below(100) {
            0..=7 => self.selector(want, &METRICS),
            8..=15 => self.math(want),
            16..=18 => self.calendar(want),
            19..=23 => self.plain(want),
            24..=37 => self.over_time(want),
            38..=46 => self.rates(want),
            47..=51 => self.labels(want),
            52..=67 => self.aggregate(want),
            68..=71 => self.ranked(want),
            72..=75 => self.quantile(want),
            76..=82 => self.with_scalar(want),
            83..=93 => self.matched(want),
            94..=95 => node!(want, Kind::Vector, "-", self.vector(want.inner())),
            96..=97 => node!(want, Kind::Vector, "(", self.vector(want.inner()), ")"),
            _ => node!(want, Kind::Vector, "vector(", self.scalar(want.inner()), ")"),
        }
    }

    fn selector(&mut self, want: Want, metrics: &[&'static str]) -> Node {
        let (bare, modifiers) = (self.bare_selector(metrics), self.modifiers());
        node!(want, Kind::Vector, bare, modifiers)
    }

    fn bare_selector(&mut self, metrics: &[&'static str]) -> String {
        let mut matchers = Vec::new();
        while self.seeded.percent(35) {
            matchers.push(self.word(&MATCHERS));
        }
        let name = *self.seeded.pick(metrics);
        // No newline is in the data, since `.` matches it from 3.0 on (changelog 3.0.0, CHANGE).
        if self.seeded.percent(6) {
            matchers.push(self.word(&[r#"__name__=~"load|level""#, r#"__name__=~"l.*l""#, r#"__name__="load""#]));
            if metrics == METRICS {
                return format!("{{{}}}", matchers.join(","));
            }
            matchers.pop();
        }
        if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(",")) }
    }

    fn modifiers(&mut self) -> String {
        let mut text = String::new();
        if self.seeded.percent(10) {
            text += &self.at();
        }
        if self.seeded.percent(12) {
            text += self.word(&[" offset 1m", " offset 7m30s", " offset -2m", " offset 40s", " offset -33s"]);
        }
        text
    }

    /// Always a time with [`HALF`].
    fn at(&mut self) -> String {
        match self.seeded.below(4) {
            0 => " @ start()".to_owned(),
            1 => " @ end()".to_owned(),
            _ => format!(" @ {}.500", START_MS / 1000 + self.seeded.below(SPAN_SECS as u64) as i64),
        }
    }

    fn duration(&mut self) -> &'static str {
        self.word(&["40s", "1m", "2m30s", "5m", "5m", "17m", "1h"])
    }

    fn matrix(&mut self, want: Want, metrics: &[&'static str]) -> Node {
        let (range, is_subquery) = (self.duration(), self.seeded.percent(if want.depth == 0 { 10 } else { 30 }));
        if !is_subquery {
            let (bare, modifiers) = (self.bare_selector(metrics), self.modifiers());
            return node!(want, Kind::Matrix, bare, format!("[{range}]{modifiers}"));
        }
        let inner_want = Want { phase: WHOLE, depth: want.depth.saturating_sub(1), is_exact: want.is_exact };
        let inner = if metrics == METRICS { self.vector(inner_want) } else { self.selector(inner_want, metrics) };
        let modifiers = self.modifiers();
        let is_half = want.phase == HALF || modifiers.contains('@');
        let half = if is_half { "" } else { "500ms" };
        // 500 ms are written where the outer steps are whole seconds: the left border is then between two inner steps.
        // At least one step: Prometheus evaluates what does not depend on the time even where none asks for it, and may fail.
        let steps: &[&str] =
            if matches!(range, "40s" | "1m") { &["15s", "30s", "7s"] } else { &["15s", "30s", "1m", "7s", "2m", ""] };
        let step = self.word(steps);
        node!(want, Kind::Matrix, "(", inner, format!(")[{range}{half}:{step}]{modifiers}"))
    }

    fn math(&mut self, want: Want) -> Node {
        let exact = want.inner().exact();
        match self.seeded.below(9) {
            0 if !want.is_exact => {
                // Go's overflow a little before those of the C library.
                let name = self.word(&["cosh(clamp(", "sinh(clamp("]);
                node!(want, Kind::Vector, name, self.vector(exact), ", -50, 50))")
            }
            1 | 8 if !want.is_exact => {
                let name = self.word(&EXACT_FUNCTIONS);
                node!(want, Kind::Vector, format!("{name}("), self.vector(exact), ")")
            }
            2 | 3 if !want.is_exact => {
                let name = self.word(&SMOOTH_FUNCTIONS);
                node!(want, Kind::Vector, format!("{name}("), self.vector(want.inner()), ")")
            }
            4 => {
                let name = self.word(&["clamp_min(", "clamp_max("]);
                node!(want, Kind::Vector, name, self.vector(want.inner()), ", ", self.scalar(exact), ")")
            }
            5 => {
                let (low, high) = (self.scalar(exact), self.scalar(exact));
                node!(want, Kind::Vector, "clamp(", self.vector(want.inner()), ", ", low, ", ", high, ")")
            }
            6 => {
                let nearest = self.word(&[")", ", 0.5)", ", 10)", ", 3)"]);
                node!(want, Kind::Vector, "round(", self.vector(exact), nearest)
            }
            _ => {
                let name = self.word(&JUMPS);
                node!(want, Kind::Vector, format!("{name}("), self.vector(exact), ")")
            }
        }
    }

    /// Of times only: what NaN or a number beyond all calendars gives depends on the processor.
    fn calendar(&mut self, want: Want) -> Node {
        let name = self.word(&CALENDAR);
        match self.seeded.below(3) {
            0 => node!(want, Kind::Vector, format!("{name}()")),
            1 => node!(want, Kind::Vector, format!("{name}(timestamp("), self.bare_selector(&METRICS), "))"),
            _ => {
                let days = self.seeded.below(40_000);
                node!(want, Kind::Vector, format!("{name}(vector(time() - {days} * 86400))"))
            }
        }
    }

    fn plain(&mut self, want: Want) -> Node {
        let name = self.word(&["timestamp(", "absent(", "sort(", "sort_desc(", "absent("]);
        let inner = match name {
            // Not both `@` and `offset`: 2.42 counts the offset twice here.
            "timestamp(" if self.seeded.percent(70) => {
                let (bare, modifiers) = (self.bare_selector(&METRICS), self.modifiers());
                let one =
                    modifiers.find(" offset").map_or(modifiers.as_str(), |at| if at > 0 { &modifiers[..at] } else { &modifiers });
                node!(want, Kind::Vector, bare, one.to_owned())
            }
            // What is there must not depend on a rounding.
            "absent(" | "timestamp(" => self.vector(want.inner().exact()),
            _ => self.vector(want.inner()),
        };
        node!(want, Kind::Vector, name, inner, ")")
    }

    fn over_time(&mut self, want: Want) -> Node {
        let is_exact = want.is_exact || self.seeded.percent(50);
        if is_exact {
            let name = self.word(&EXACT_OVER_TIME);
            return node!(want, Kind::Vector, format!("{name}("), self.matrix(want.inner().exact(), &METRICS), ")");
        }
        match self.seeded.below(8) {
            0 => {
                let (seconds, bare, range) =
                    (self.word(&["60", "3600", "-30", "0"]), self.bare_selector(&STEADY), self.duration());
                // Of finite values: with infinities the compensated sums differ. Without `@`: in a range query 2.42 moves the window all the same (2.50.0, BUGFIX: "wrongly scoped range vectors").
                let offset = self.word(&["", "", " offset 1m", " offset -33s"]);
                node!(want, Kind::Vector, format!("predict_linear({bare}[{range}]{offset}, {seconds})"))
            }
            2 => {
                let (bare, range, modifiers) = (self.bare_selector(&STEADY), self.duration(), self.modifiers());
                node!(want, Kind::Vector, format!("avg_over_time({bare}[{range}]{modifiers})"))
            }
            1 => {
                let q = self.quantile_number();
                node!(want, Kind::Vector, format!("quantile_over_time({q}, "), self.matrix(want.inner().exact(), &METRICS), ")")
            }
            _ => {
                let name = self.word(&ROUNDED_OVER_TIME);
                node!(want, Kind::Vector, format!("{name}("), self.matrix(want.inner().exact(), &METRICS), ")")
            }
        }
    }

    fn quantile_number(&mut self) -> &'static str {
        self.word(&["0.5", "0.123", "0.9", "0.99", "0.317", "0", "1", "-1", "2", "NaN"])
    }

    /// 2.53.0, BUGFIX: "rate/increase extrapolate towards zero only up to half an interval where the first sample is far". The
    /// counters here start far from zero, and the one that falls to zero has no gaps: the two ways then agree.
    fn rates(&mut self, want: Want) -> Node {
        let name = self.word(&["rate(", "rate(", "increase(", "irate("]);
        let exact = want.inner().exact();
        let call = node!(want, Kind::Vector, name, self.matrix(exact, &COUNTERS), ")");
        if !want.is_exact {
            return call;
        }
        let by = self.grouping();
        node!(want, Kind::Vector, "count", by, "(", call, ")")
    }

    fn labels(&mut self, want: Want) -> Node {
        let inner = self.vector(want.inner());
        let label = self.word(&LABELS);
        let tail = match self.seeded.below(6) {
            0 => format!(r#", "copy", "$1", "{label}", "(.*)")"#),
            1 => format!(r#", "{label}", "x-${{1}}$2", "instance", "(i)(.)")"#),
            2 => r#", "job", "", "zone", ".+")"#.to_owned(),
            3 => format!(r#", "{label}", "same", "job", "a.*")"#),
            4 => r#", "__name__", "renamed_$1", "job", "(.*)")"#.to_owned(),
            _ => {
                let tail = format!(r#", "joined", "-", "job", "{label}", "instance")"#);
                return node!(want, Kind::Vector, "label_join(", inner, tail);
            }
        };
        node!(want, Kind::Vector, "label_replace(", inner, tail)
    }

    fn grouping(&mut self) -> String {
        let mut labels: Vec<&str> = Vec::new();
        for label in LABELS {
            if self.seeded.percent(30) {
                labels.push(label);
            }
        }
        match self.seeded.below(5) {
            0 => String::new(),
            1 | 2 => format!(" without ({}) ", labels.join(", ")),
            _ => format!(" by ({}) ", labels.join(", ")),
        }
    }

    fn aggregate(&mut self, want: Want) -> Node {
        let by = self.grouping();
        if want.is_exact || self.seeded.percent(40) {
            let name = self.word(&["min", "max", "count", "group"]);
            let inner = Want { is_exact: want.is_exact, ..want.inner() };
            return node!(want, Kind::Vector, name, by, "(", self.vector(inner), ")");
        }
        match self.seeded.below(8) {
            0 => {
                let q = self.quantile_number();
                node!(want, Kind::Vector, "quantile", by, format!("({q}, "), self.vector(want.inner()), ")")
            }
            // The label comes last in the order of names: 2.42 forgets to sort it in among those of `by`.
            1 => node!(want, Kind::Vector, "count_values", by, r#"("zz_value", "#, self.vector(want.inner().exact()), ")"),
            2..=4 => {
                let name = self.word(&["avg", "avg", "stddev", "stdvar"]);
                let inner = if self.seeded.percent(50) {
                    self.selector(want, &STEADY)
                } else {
                    node!(want, Kind::Vector, "rate(", self.matrix(Want { depth: 0, ..want }, &["requests_total"]), ")")
                };
                node!(want, Kind::Vector, name, by, "(", inner, ")")
            }
            _ => {
                let name = "sum";
                node!(want, Kind::Vector, name, by, "(", self.vector(want.inner().exact()), ")")
            }
        }
    }

    /// Of values that are all different: which of equal ones stay is not defined.
    fn ranked(&mut self, want: Want) -> Node {
        let (name, by) = (self.word(&["topk", "bottomk"]), self.grouping());
        let (k, inner) = (self.word(&["1", "2", "3", "5", "0", "-1", "100"]), self.selector(want, &["load"]));
        node!(want, Kind::Vector, name, by, format!("({k}, "), inner, ")")
    }

    fn quantile(&mut self, want: Want) -> Node {
        if want.is_exact {
            return self.selector(want, &METRICS);
        }
        // 2.48.0 and later, ENHANCEMENT: small differences between buckets that are not monotonic are tolerated. At 1 a
        // rounding could decide between buckets that hold nothing.
        let q = self.word(&["0.5", "0.123", "0.9", "0.99", "-1", "2"]);
        let inner = match self.seeded.below(4) {
            0 => self.selector(want, &["latency_bucket"]),
            1 => node!(want, Kind::Vector, "rate(", self.matrix(Want { depth: 0, ..want }, &["latency_bucket"]), ")"),
            2 => node!(
                want,
                Kind::Vector,
                "sum by (le) (increase(",
                self.matrix(Want { depth: 0, ..want }, &["latency_bucket"]),
                "))"
            ),
            _ => self.vector(want.inner().exact()),
        };
        node!(want, Kind::Vector, format!("histogram_quantile({q}, "), inner, ")")
    }

    /// Without `atan2` between vectors, whose result had a name until 2.47 (2.47.0, BUGFIX).
    fn with_scalar(&mut self, want: Want) -> Node {
        let is_comparison = self.seeded.percent(50);
        let is_swapped = self.seeded.percent(40);
        if is_comparison {
            let op = self.word(&[" > ", " < ", " == ", " != ", " >= bool ", " <= bool ", " == bool ", " < bool "]);
            let (vector, scalar) = (self.vector(want.inner().exact()), self.scalar(want.inner().exact()));
            let (lhs, rhs) = if is_swapped { (scalar, vector) } else { (vector, scalar) };
            return node!(want, Kind::Vector, "(", lhs, op, rhs, ")");
        }
        let op = if want.is_exact {
            self.word(&[" + ", " - ", " * ", " / ", " % "])
        } else {
            self.word(&[" + ", " - ", " * ", " / ", " % ", " ^ "])
        };
        let inner = Want { is_exact: want.is_exact || !matches!(op, " * " | " / "), ..want.inner() };
        let (vector, scalar) = (self.vector(inner), self.scalar(inner));
        let (lhs, rhs) = if is_swapped { (scalar, vector) } else { (vector, scalar) };
        node!(want, Kind::Vector, "(", lhs, op, rhs, ")")
    }

    fn matched(&mut self, want: Want) -> Node {
        let kind = self.seeded.below(10);
        if kind < 3 {
            let (op, matching) = (self.word(&[" and ", " or ", " unless "]), self.matching());
            let (lhs, rhs) = (self.vector(want.inner()), self.vector(want.inner().exact()));
            return node!(want, Kind::Vector, "(", lhs, op, matching, rhs, ")");
        }
        let op = match kind {
            3..=5 => self.word(&[" > ", " == ", " != bool ", " <= ", " > bool "]),
            _ if want.is_exact => self.word(&[" + ", " - ", " * ", " / ", " % "]),
            _ => self.word(&[" + ", " - ", " * ", " / ", " % ", " ^ "]),
        };
        let inner = Want { is_exact: want.is_exact || !matches!(op, " * " | " / "), ..want.inner() };
        if self.seeded.percent(40) {
            return self.fitting_sides(want, inner, op);
        }
        let (lhs, rhs) = (self.vector(inner), self.vector(inner));
        let matching = self.matching();
        let grouped = match self.seeded.below(6) {
            0 if !matching.is_empty() => "group_left ",
            1 if !matching.is_empty() => "group_right (zone) ",
            _ => "",
        };
        node!(want, Kind::Vector, "(", lhs, op, matching, grouped, rhs, ")")
    }

    /// Two sides that find each other, most of the time.
    fn fitting_sides(&mut self, want: Want, inner: Want, op: &'static str) -> Node {
        let (lhs, rhs) = (self.vector(inner), self.vector(inner));
        match self.seeded.below(4) {
            0 => node!(want, Kind::Vector, "(max by (job) (", lhs, ")", op, "on (job) min by (job) (", rhs, "))"),
            1 => {
                let owner = "group_left (owner) max by (job, owner) (owner_info))";
                node!(want, Kind::Vector, "(max without (le) (", lhs, ")", op, "on (job) ", owner)
            }
            2 => node!(want, Kind::Vector, "(max by (job) (", lhs, ")", op, "on (job) group_right () (", rhs, "))"),
            _ => node!(
                want,
                Kind::Vector,
                "(max by (job, zone) (",
                lhs,
                ")",
                op,
                "ignoring (code) max by (job, zone) (",
                rhs,
                "))"
            ),
        }
    }

    fn matching(&mut self) -> String {
        let mut labels: Vec<&str> = Vec::new();
        for label in LABELS {
            if self.seeded.percent(40) {
                labels.push(label);
            }
        }
        match self.seeded.below(4) {
            0 => String::new(),
            1 => format!("on ({}) ", labels.join(", ")),
            2 => "on (job, instance) ".to_owned(),
            _ => format!("ignoring ({}) ", labels.join(", ")),
        }
    }
}
