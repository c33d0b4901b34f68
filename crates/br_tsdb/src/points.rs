//! Samples by column: cutting them to a range, and merging what several parts hold of one series.

use br_model::{CounterResetHint, FloatHistogram, Value};
use br_std::ring::Ring;
use br_storage::{Points, Values, Weight};
use std::sync::Arc;

/// In [`Points::starts_ms`]: this sample does not say when its counter began.
pub(crate) const START_UNKNOWN: i64 = i64::MIN;

pub(crate) fn floats(timestamps_ms: Arc<[i64]>, values: Vec<f64>, starts_ms: Option<Vec<i64>>) -> Points {
    Points { timestamps_ms, values: Values::Floats(values), starts_ms, weights: None }
}

pub(crate) fn histograms(timestamps_ms: Arc<[i64]>, values: Vec<Arc<FloatHistogram>>, starts_ms: Option<Vec<i64>>) -> Points {
    Points { timestamps_ms, values: Values::Histograms(values), starts_ms, weights: None }
}

/// The samples between two times, both included; the whole vector is shared when nothing is cut.
pub(crate) fn cut(points: Points, from_ms: i64, to_ms: i64) -> Points {
    let start = points.timestamps_ms.partition_point(|timestamp| *timestamp < from_ms);
    let end = points.timestamps_ms.partition_point(|timestamp| *timestamp <= to_ms).max(start);
    if start == 0 && end == points.len() {
        return points;
    }
    slice(&points, start, end)
}

/// The samples from position `start` up to, but without, position `end`.
pub(crate) fn slice(points: &Points, start: usize, end: usize) -> Points {
    let values = match &points.values {
        Values::Floats(values) => Values::Floats(values[start..end].to_vec()),
        Values::Histograms(values) => Values::Histograms(values[start..end].to_vec()),
        Values::Mixed(values) => Values::Mixed(values[start..end].to_vec()),
    };
    let starts_ms = points.starts_ms.as_ref().map(|starts| starts[start..end].to_vec());
    let weights = points.weights.as_ref().map(|weights| weights[start..end].to_vec());
    Points { timestamps_ms: points.timestamps_ms[start..end].into(), values, starts_ms, weights }
}

/// One column from several parts. Where two hold a sample of the same time, the part that stands first wins.
pub(crate) fn merge(parts: Vec<Points>) -> Option<Points> {
    merge_telling(parts, |_, _| {})
}

/// The same, with how many samples are left out that have another value than the one that wins.
pub(crate) fn merge_counting(parts: Vec<Points>) -> (Option<Points>, u64) {
    let mut contradictions = 0;
    let merged = merge_telling(parts, |kept, left_out| contradictions += u64::from(!is_same(kept, left_out)));
    (merged, contradictions)
}

/// By the bits of floats; what a histogram says of a reset before it depends on where it was written.
fn is_same(one: &Value, other: &Value) -> bool {
    let unhinted =
        |histogram: &FloatHistogram| FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..histogram.clone() };
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
        (Value::Histogram(one), Value::Histogram(other)) => one == other || unhinted(one) == unhinted(other),
        _ => false,
    }
}

/// `tell` hears of each sample that is left out, behind the one that wins.
fn merge_telling(mut parts: Vec<Points>, mut tell: impl FnMut(&Value, &Value)) -> Option<Points> {
    parts.retain(|part| !part.is_empty());
    if parts.len() <= 1 {
        return parts.pop();
    }
    let mut order: Vec<(i64, u32, u32)> = Vec::with_capacity(parts.iter().map(Points::len).sum());
    for (part, points) in parts.iter().enumerate() {
        order.extend(points.timestamps_ms.iter().enumerate().map(|(at, timestamp)| (*timestamp, part as u32, at as u32)));
    }
    if !order.is_sorted() {
        order.sort_unstable();
    }
    let value = |(_, part, at): &(i64, u32, u32)| parts[*part as usize].value(*at as usize);
    order.dedup_by(|next, kept| {
        let is_repeated = next.0 == kept.0;
        if is_repeated {
            tell(&value(kept), &value(next));
        }
        is_repeated
    });
    Some(gather(&parts, &order))
}

/// How the timestamps of several parts come together within a range of time. Worked out once for series that share them.
pub(crate) struct Joints(Ring<Joint>);

struct Joint {
    parts: Vec<Arc<[i64]>>,
    /// Of the parts one after the other, those in the range.
    timestamps_ms: Arc<[i64]>,
    start: usize,
}

/// Scrape groups that alternate in the order of series: as many as targets that are scraped.
pub(crate) const GROUPS_MAX: usize = 1024;
/// What one query keeps of their timestamps, in each of three ways; it is charged for them.
pub(crate) const GROUPS_BYTES_MAX: usize = 8 << 20;

impl Default for Joints {
    fn default() -> Self {
        Self(Ring::new(GROUPS_MAX, GROUPS_BYTES_MAX))
    }
}

impl Joints {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes() as u64
    }

    /// As [`merge`] and then [`cut`], always to the same range. `None` unless the parts are plain floats that follow each other.
    pub(crate) fn floats(&mut self, parts: &[Points], from_ms: i64, to_ms: i64) -> Option<Points> {
        let is_plain = |part: &Points| {
            matches!(part.values, Values::Floats(_)) && part.starts_ms.is_none() && part.weights.is_none() && !part.is_empty()
        };
        if parts.len() < 2 || !parts.iter().all(is_plain) {
            return None;
        }
        let is_of = |joint: &Joint| {
            joint.parts.len() == parts.len()
                && joint.parts.iter().zip(parts).all(|(known, part)| Arc::ptr_eq(known, &part.timestamps_ms))
        };
        let addresses = parts.iter().map(|part| part.timestamps_ms.as_ptr() as u64);
        let hash = addresses.fold(0, |hash, address| br_std::hash::spread(hash ^ address));
        let at = if let Some(at) = self.0.find(hash, is_of) {
            at
        } else {
            let joint = Joint::of(parts, from_ms, to_ms)?;
            self.0.push(hash, joint.bytes(), joint)
        };
        let Joint { timestamps_ms, start, .. } = &self.0[at];
        let (mut skipped, count) = (*start, timestamps_ms.len());
        let mut values = Vec::with_capacity(count);
        for part in parts {
            let Values::Floats(of_part) = &part.values else { return None };
            let from = skipped.min(of_part.len());
            skipped -= from;
            let to = of_part.len().min(from + (count - values.len()));
            values.extend_from_slice(&of_part[from..to]);
        }
        Some(floats(timestamps_ms.clone(), values, None))
    }
}

impl Joint {
    fn of(parts: &[Points], from_ms: i64, to_ms: i64) -> Option<Self> {
        let times = || parts.iter().flat_map(|part| part.timestamps_ms.iter().copied());
        if !times().is_sorted_by(|one, other| one < other) {
            return None;
        }
        let timestamps_ms = times().filter(|time| (from_ms..=to_ms).contains(time)).collect();
        let start = times().take_while(|time| *time < from_ms).count();
        Some(Self { parts: parts.iter().map(|part| part.timestamps_ms.clone()).collect(), timestamps_ms, start })
    }

    fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| size_of_val(&**part)).sum();
        parts + size_of_val(&*self.timestamps_ms)
    }
}

/// The timestamp vectors that came last, so that series scraped together share one.
pub(crate) struct SharedTimestamps(Ring<Arc<[i64]>>);

impl Default for SharedTimestamps {
    fn default() -> Self {
        Self(Ring::new(GROUPS_MAX, GROUPS_BYTES_MAX))
    }
}

impl SharedTimestamps {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes() as u64
    }

    pub(crate) fn shared(&mut self, times: &[i64]) -> Arc<[i64]> {
        let ends =
            [times.len() as u64, times.first().map_or(0, |first| *first as u64), times.last().map_or(0, |last| *last as u64)];
        let hash = ends.into_iter().fold(0, |hash, word| br_std::hash::spread(hash ^ word));
        let known = self.0.find(hash, |other| **other == *times);
        let at = known.unwrap_or_else(|| self.0.push(hash, size_of_val(times), times.into()));
        self.0[at].clone()
    }
}

fn gather(parts: &[Points], order: &[(i64, u32, u32)]) -> Points {
    let timestamps_ms = order.iter().map(|(timestamp, ..)| *timestamp).collect();
    let places = || order.iter().map(|(_, part, at)| (&parts[*part as usize], *at as usize));
    let starts_ms = parts.iter().any(|part| part.starts_ms.is_some()).then(|| {
        let start = |(part, at): (&Points, usize)| part.starts_ms.as_ref().map_or(START_UNKNOWN, |starts| starts[at]);
        places().map(start).collect()
    });
    let has_weights = parts.iter().any(|part| part.weights.is_some());
    let weights = has_weights.then(|| places().map(|(part, at)| part.weight(at)).collect());
    let mut values = Vec::with_capacity(order.len());
    if parts.iter().all(|part| matches!(part.values, Values::Floats(_))) {
        for (part, at) in places() {
            if let Values::Floats(floats) = &part.values {
                values.push(floats[at]);
            }
        }
        return Points { timestamps_ms, values: Values::Floats(values), starts_ms, weights };
    }
    let values = places().map(|(part, at)| part.value(at)).collect();
    Points { timestamps_ms, values: unmixed(values), starts_ms, weights }
}

/// The narrowest column that holds these values.
pub(crate) fn unmixed(values: Vec<Value>) -> Values {
    if values.iter().all(|value| matches!(value, Value::Float(_))) {
        return Values::Floats(
            values.iter().filter_map(|value| if let Value::Float(value) = value { Some(*value) } else { None }).collect(),
        );
    }
    if values.iter().all(|value| matches!(value, Value::Histogram(_))) {
        let histogram = |value| if let Value::Histogram(histogram) = value { Some(histogram) } else { None };
        return Values::Histograms(values.into_iter().filter_map(histogram).collect());
    }
    Values::Mixed(values)
}

/// Positions at which the kind of value changes, with the end as the last.
pub(crate) fn kind_ends(points: &Points) -> Vec<usize> {
    let Values::Mixed(values) = &points.values else { return vec![points.len()] };
    let is_float = |value: &Value| matches!(value, Value::Float(_));
    let changes = (1..values.len()).filter(|at| is_float(&values[*at]) != is_float(&values[at - 1]));
    changes.chain([values.len()]).collect()
}

/// Values that are all of one kind, as the column of that kind.
pub(crate) fn of_one_kind(points: Points) -> Points {
    let values = match points.values {
        Values::Mixed(values) => unmixed(values),
        values => values,
    };
    Points { values, ..points }
}

/// Roughly what these samples take in memory.
pub(crate) fn heap_bytes(points: &Points) -> u64 {
    let of_histogram = |histogram: &FloatHistogram| histogram_bytes(histogram) as u64;
    let values = match &points.values {
        Values::Floats(values) => 8 * values.len() as u64,
        Values::Histograms(values) => values.iter().map(|histogram| of_histogram(histogram)).sum(),
        Values::Mixed(values) => values
            .iter()
            .map(|value| if let Value::Histogram(histogram) = value { of_histogram(histogram) + 16 } else { 16 })
            .sum(),
    };
    let weights = points.weights.as_ref().map_or(0, |weights| size_of::<Weight>() as u64 * weights.len() as u64);
    values + weights + 8 * points.len() as u64 + points.starts_ms.as_ref().map_or(0, |starts| 8 * starts.len() as u64)
}

/// About what a histogram takes in memory.
pub(crate) fn histogram_bytes(histogram: &FloatHistogram) -> usize {
    let buckets = histogram.positive_buckets.len() + histogram.negative_buckets.len() + histogram.custom_values.len();
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    size_of::<FloatHistogram>() + 8 * (buckets + spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_follow_each_other_come_together_as_by_a_merge() {
        let part = |from: i64, count: i64, scale: f64| {
            let times = (from..from + count).map(|at| at * 10);
            floats(times.clone().collect(), times.map(|at| at as f64 * scale).collect(), None)
        };
        let (first, second, third) = (part(0, 5, 1.0), part(5, 3, 1.0), part(8, 4, 1.0));
        let other_values = |points: &Points| {
            let Values::Floats(values) = &points.values else { unreachable!("made of floats") };
            floats(points.timestamps_ms.clone(), values.iter().map(|value| value + 0.5).collect(), None)
        };
        for (from_ms, to_ms) in [(0, 200), (20, 90), (50, 79), (80, 80), (60, 65), (-9, -1), (300, 400)] {
            let mut joints = Joints::default();
            for parts in [vec![&first, &second, &third], vec![&first, &third], vec![&second, &third]] {
                let mut shared: Option<Arc<[i64]>> = None;
                for parts in
                    [parts.iter().map(|part| (*part).clone()).collect(), parts.iter().map(|part| other_values(part)).collect()]
                {
                    let parts: Vec<Points> = parts;
                    let joint = joints.floats(&parts, from_ms, to_ms).expect("plain parts");
                    let known = shared.get_or_insert_with(|| joint.timestamps_ms.clone());
                    assert!(Arc::ptr_eq(known, &joint.timestamps_ms), "worked out once");
                    let merged = merge(parts).expect("two parts and more");
                    assert_eq!(joint, cut(merged, from_ms, to_ms), "{from_ms}..={to_ms}");
                }
            }
        }
    }

    #[test]
    fn parts_that_overlap_or_say_more_are_left_to_the_merge() {
        let plain = |times: &[i64]| floats(times.into(), vec![1.0; times.len()], None);
        let started = floats([30].as_slice().into(), vec![1.0], Some(vec![7]));
        let mut joints = Joints::default();
        assert!(joints.floats(&[plain(&[10, 20]), plain(&[20, 30])], 0, 99).is_none(), "one time twice");
        assert!(joints.floats(&[plain(&[10, 20]), plain(&[5])], 0, 99).is_none(), "the older part comes last");
        assert!(joints.floats(&[plain(&[10, 20]), started], 0, 99).is_none(), "it says when its counter began");
        assert!(joints.floats(&[plain(&[10, 20])], 0, 99).is_none(), "nothing to bring together");
    }
}
