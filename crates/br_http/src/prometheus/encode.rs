//! Query results as JSON, written straight into text: a range query has millions of points.

use br_model::{FloatHistogram, Labels};
use br_promql::{Point, QueryOutput, Series, Value, VectorSample, format_float, write_float};
use br_std::Result;
use br_storage::Budget;
use std::fmt::Write as _;

/// What a float sample takes at the most: `[-9223372036854775.807,"-2.2250738585072014e-308"],`.
const FLOAT_BYTES: usize = 64;
/// What a bucket takes at the most: a rule and three numbers.
const BUCKET_BYTES: usize = 96;
/// What a histogram takes beside its buckets.
const HISTOGRAM_BYTES: usize = 160;
/// Points between two looks at whether the answer is still wanted.
const LOOK_POINTS: usize = 1024;

/// The whole answer of a query. Its text counts against the budget as it grows, and what has been written out does no longer.
/// `stats` stand beside the result.
pub(super) fn answer(output: QueryOutput, stats: Option<&serde_json::Value>, budget: &Budget) -> Result<String> {
    let mut writer = Writer { out: String::new(), budget, charged: 0 };
    writer.reserve(256)?;
    writer.out.push_str(r#"{"status":"success","data":{"resultType":""#);
    match output.value {
        Value::Scalar { timestamp_ms, value } => {
            writer.out.push_str(r#"scalar","result":"#);
            pair(&mut writer.out, timestamp_ms, value);
        }
        Value::String { timestamp_ms, value } => {
            writer.out.push_str(r#"string","result":["#);
            time(&mut writer.out, timestamp_ms);
            writer.out.push(',');
            string(&mut writer.out, &value);
            writer.out.push(']');
        }
        Value::Vector(samples) => {
            writer.out.push_str(r#"vector","result":["#);
            for (at, sample) in samples.into_iter().enumerate() {
                writer.vector_sample(at, &sample)?;
            }
            writer.out.push(']');
        }
        Value::Matrix(all) => {
            writer.out.push_str(r#"matrix","result":["#);
            for (at, series) in all.into_iter().enumerate() {
                writer.matrix_series(at, &series)?;
                writer.release(br_promql::points_bytes(&series.points));
            }
            writer.out.push(']');
        }
    }
    if let Some(stats) = stats {
        let _ = write!(writer.out, r#","stats":{stats}"#);
    }
    writer.out.push('}');
    notes(&mut writer.out, "warnings", &output.warnings);
    notes(&mut writer.out, "infos", &output.infos);
    writer.out.push('}');
    writer.settle()?;
    Ok(writer.out)
}

/// A list of the lookups, cut at `limit`. It says so, and what could not be read.
pub(super) fn list<T>(
    items: impl IntoIterator<Item = T>,
    limit: usize,
    budget: &Budget,
    write: impl Fn(&mut String, &T),
) -> Result<String> {
    let mut writer = Writer { out: String::new(), budget, charged: 0 };
    writer.reserve(256)?;
    writer.out.push_str(r#"{"status":"success","data":["#);
    let mut warnings = budget.damage().warnings();
    for (at, item) in items.into_iter().enumerate() {
        if at == limit {
            warnings.push(super::TRUNCATED.to_owned());
            break;
        }
        if at % LOOK_POINTS == 0 {
            budget.check()?;
        }
        writer.out.push_str(if at > 0 { "," } else { "" });
        write(&mut writer.out, &item);
        writer.settle()?;
    }
    writer.out.push(']');
    notes(&mut writer.out, "warnings", &warnings);
    writer.out.push('}');
    writer.settle()?;
    Ok(writer.out)
}

struct Writer<'a> {
    out: String,
    budget: &'a Budget,
    /// For the text.
    charged: u64,
}

impl Writer<'_> {
    /// Makes room for so much more, which is paid for before it is there.
    fn reserve(&mut self, bytes: usize) -> Result<()> {
        let free = self.out.capacity() - self.out.len();
        if free >= bytes {
            return Ok(());
        }
        let more = bytes.max(self.out.capacity() / 2);
        self.charge(more as u64)?;
        self.out.reserve_exact(free + more);
        self.settle()
    }

    /// Charges what the text holds beyond what was foreseen.
    fn settle(&mut self) -> Result<()> {
        self.charge((self.out.capacity() as u64).saturating_sub(self.charged))
    }

    fn charge(&mut self, bytes: u64) -> Result<()> {
        self.budget.charge(bytes).map_err(|error| error.context("writing the answer"))?;
        self.charged += bytes;
        Ok(())
    }

    /// Of the result, which the query was charged for where it is large.
    fn release(&self, bytes: u64) {
        self.budget.release(bytes.min(self.budget.bytes_used().saturating_sub(self.charged)));
    }

    fn head(&mut self, at: usize, labels_of: &Labels) -> Result<()> {
        self.reserve(64 + labels_of.iter().map(|(name, value)| name.len() + value.len() + 6).sum::<usize>())?;
        if at > 0 {
            self.out.push(',');
        }
        self.out.push_str(r#"{"metric":"#);
        labels(&mut self.out, labels_of);
        self.settle()
    }

    fn vector_sample(&mut self, at: usize, sample: &VectorSample) -> Result<()> {
        self.head(at, &sample.labels)?;
        match &sample.point {
            Point::Float(value) => {
                self.reserve(FLOAT_BYTES + 16)?;
                self.out.push_str(r#","value":"#);
                pair(&mut self.out, sample.timestamp_ms, *value);
            }
            Point::Histogram(value) => {
                self.out.push_str(r#","histogram":"#);
                self.histogram(sample.timestamp_ms, value)?;
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn matrix_series(&mut self, at: usize, series: &Series) -> Result<()> {
        self.head(at, &series.labels)?;
        let mut floats = 0;
        for (at_ms, point) in &series.points {
            let Point::Float(value) = point else { continue };
            self.reserve(FLOAT_BYTES + 16)?;
            if floats % LOOK_POINTS == 0 {
                self.budget.check()?;
            }
            self.out.push_str(if floats == 0 { r#","values":["# } else { "," });
            pair(&mut self.out, *at_ms, *value);
            floats += 1;
        }
        self.out.push_str(if floats > 0 { "]" } else { "" });
        let mut histograms = 0;
        for (at_ms, point) in &series.points {
            let Point::Histogram(value) = point else { continue };
            self.out.push_str(if histograms == 0 { r#","histograms":["# } else { "," });
            self.histogram(*at_ms, value)?;
            histograms += 1;
        }
        self.out.push_str(if histograms > 0 { "]}" } else { "}" });
        Ok(())
    }

    fn histogram(&mut self, at_ms: i64, histogram: &FloatHistogram) -> Result<()> {
        self.budget.check()?;
        let buckets = histogram.positive_buckets.len() + histogram.negative_buckets.len() + 1;
        self.reserve(HISTOGRAM_BYTES + buckets * BUCKET_BYTES)?;
        histogram_pair(&mut self.out, at_ms, histogram);
        Ok(())
    }
}

fn separated<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

pub(super) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    separated(out, labels.iter(), |out, (name, value)| {
        string(out, name);
        out.push(':');
        string(out, value);
    });
    out.push('}');
}

fn notes(out: &mut String, name: &str, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    let _ = write!(out, r#","{name}":["#);
    separated(out, notes, |out, note| string(out, note));
    out.push(']');
}

fn pair(out: &mut String, timestamp_ms: i64, value: f64) {
    out.push('[');
    time(out, timestamp_ms);
    out.push_str(",\"");
    write_float(out, value);
    out.push_str("\"]");
}

/// Seconds with up to three fractional digits.
fn time(out: &mut String, timestamp_ms: i64) {
    let (seconds, millis) = (timestamp_ms / 1000, (timestamp_ms % 1000).unsigned_abs());
    if timestamp_ms < 0 && seconds == 0 {
        out.push('-');
    }
    let _ = write!(out, "{seconds}");
    if millis > 0 {
        let fraction = format!(".{millis:03}");
        out.push_str(fraction.trim_end_matches('0'));
    }
}

fn histogram_pair(out: &mut String, timestamp_ms: i64, histogram: &FloatHistogram) {
    out.push('[');
    time(out, timestamp_ms);
    let (count, sum) = (format_float(histogram.count), format_float(histogram.sum));
    let _ = write!(out, r#",{{"count":"{count}","sum":"{sum}""#);
    let buckets: Vec<_> = br_promql::histogram::buckets(histogram).into_iter().filter(|bucket| bucket.count != 0.0).collect();
    if !buckets.is_empty() {
        out.push_str(r#","buckets":["#);
        separated(out, buckets, |out, bucket| {
            // 0: open on the left, 1: open on the right, 2: open on both sides, 3: closed on both sides.
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let (lower, upper, count) = (format_float(bucket.lower), format_float(bucket.upper), format_float(bucket.count));
            let _ = write!(out, r#"[{rule},"{lower}","{upper}","{count}"]"#);
        });
        out.push(']');
    }
    out.push_str("}]");
}

pub(super) fn string(out: &mut String, text: &str) {
    // What JSON escapes: hardly any label has it.
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(_) => out.push_str("\"\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::Kind;
    use std::sync::Arc;

    fn check(value: Value, expect: &str) {
        let output = QueryOutput { value, warnings: Vec::new(), infos: Vec::new() };
        let answer = answer(output, None, &Budget::unlimited()).expect("no limit");
        assert_eq!(answer, format!(r#"{{"status":"success","data":{expect}}}"#));
        serde_json::from_str::<serde_json::Value>(&answer).expect("valid JSON");
    }

    #[test]
    fn shapes() {
        check(Value::Scalar { timestamp_ms: -500, value: f64::INFINITY }, r#"{"resultType":"scalar","result":[-0.5,"+Inf"]}"#);
        let labels = Labels::from_pairs([("__name__", "up"), ("q", "a\"b\n")]);
        let sample = VectorSample { labels: labels.clone(), timestamp_ms: 1500, point: Point::Float(0.1) };
        check(
            Value::Vector(vec![sample]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","q":"a\"b\n"},"value":[1.5,"0.1"]}]}"#,
        );
        let series = Series { labels: Labels::empty(), points: vec![(1000, Point::Float(f64::NAN)), (2000, Point::Float(1e21))] };
        check(
            Value::Matrix(vec![series]),
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"NaN"],[2,"1e+21"]]}]}"#,
        );
    }

    fn matrix(point: &Point, series: usize, steps: i64) -> QueryOutput {
        let points: Vec<_> = (0..steps).map(|step| (1_700_000_000_000 + step, point.clone())).collect();
        let one = |number: usize| Series { labels: Labels::from_pairs([("n", number.to_string())]), points: points.clone() };
        QueryOutput { value: Value::Matrix((0..series).map(one).collect()), warnings: Vec::new(), infos: Vec::new() }
    }

    #[test]
    fn the_text_of_buckets_counts_against_the_budget() {
        let mut histogram = FloatHistogram { count: 1000.0, positive_buckets: vec![1.5; 1000], ..FloatHistogram::default() };
        histogram.positive_spans = vec![br_model::BucketSpan { offset: -500, length: 1000 }];
        let point = Point::Histogram(Arc::new(histogram));
        let budget = Budget::new(1 << 20);
        let error = answer(matrix(&point, 1, 11_000), None, &budget).expect_err("hundreds of megabytes");
        assert!(error.kind() == Kind::OverLimit && error.message().contains("limits.query_memory"), "{error}");
        let text = answer(matrix(&point, 1, 3), None, &Budget::new(1 << 20)).expect("three of them fit");
        assert_eq!(text.matches(r#""count":"1000""#).count(), 3);
    }

    #[test]
    fn what_has_been_written_makes_room_for_what_is_written() {
        let (series, steps) = (100, 1000);
        let output = matrix(&Point::Float(0.123_456_789), series, steps);
        let held = series as u64 * steps as u64 * 24;
        let text_bytes = answer(output.clone(), None, &Budget::unlimited()).expect("no limit").len() as u64;
        let budget = Budget::new(held + text_bytes);
        budget.charge(held).expect("as the engine does");
        answer(output, None, &budget).expect("the points go as the text comes");
        assert!(budget.bytes_used() < 2 * text_bytes, "{} of {text_bytes}", budget.bytes_used());
    }

    #[test]
    fn nobody_writes_for_who_has_gone_away() {
        let budget = Budget::unlimited();
        budget.cancel(br_storage::CancelReason::Caller);
        assert!(answer(matrix(&Point::Float(1.0), 1, 1), None, &budget).is_err());
    }
}
