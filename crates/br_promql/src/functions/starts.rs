//! Counter resets that start timestamps show.

use crate::engine::known_start;
use br_storage::Points;

fn start_of(points: &Points, at: usize) -> Option<i64> {
    points.starts_ms.as_ref().and_then(|starts| starts.get(at)).and_then(|start_ms| known_start(*start_ms))
}

/// Whether the counter behind the sample at a position, which is not the first, began anew after the sample before it.
/// A beginning at the very time of the sample before counts when that one knows a beginning of its own: such are deltas.
pub(super) fn is_reset(points: &Points, at: usize) -> bool {
    let Some(start_ms) = start_of(points, at) else { return false };
    let times = &points.timestamps_ms;
    if start_ms >= times[at] {
        return false;
    }
    let before_ms = times[at - 1];
    start_ms > before_ms || (start_ms == before_ms && start_of(points, at - 1).is_some_and(|earlier_ms| earlier_ms < before_ms))
}

/// Whether the counter claims to have begun while the sample before it was still counting another.
pub(super) fn overlaps(points: &Points, at: usize) -> bool {
    let Some(start_ms) = start_of(points, at) else { return false };
    start_ms < points.timestamps_ms[at - 1] && start_of(points, at - 1) != Some(start_ms)
}

/// When the counter behind a sample began, if that lies within (`after_ms`, the sample's own time).
pub(super) fn beginning_within(points: &Points, at: usize, after_ms: i64) -> Option<i64> {
    start_of(points, at).filter(|start_ms| *start_ms > after_ms && *start_ms < points.timestamps_ms[at])
}
