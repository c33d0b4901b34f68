//! What one service did in a range of time.

use br_model::{SpanKind, SpanStatus};
use br_std::Nanos;
use br_storage::{StoredSpan, TimeRange};
use std::time::Duration;

/// Points on the small curves.
const STEPS: u64 = 60;
/// A rate over less would make much of the first line that a service writes. `ui/src/lib/rates.ts` has the same for the curves.
const SEEN_MIN: Duration = Duration::from_secs(10);

/// A range cut into steps of whole milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) range: TimeRange,
    pub(super) step: Duration,
    pub(super) steps: usize,
}

impl Grid {
    pub(super) fn new(range: TimeRange) -> Self {
        // The end of a range is one nanosecond past the last moment in it: that must not cost a step.
        let width_ms = range.to.since(range.from).as_millis().max(1) as u64;
        let step_ms = width_ms.div_ceil(STEPS);
        Self { range, step: Duration::from_millis(step_ms), steps: width_ms.div_ceil(step_ms) as usize }
    }

    /// The step in which a time of the range lies.
    pub(super) fn step_of(&self, time: Nanos) -> usize {
        let at = time.0.saturating_sub(self.range.from.0).max(0) / self.step.as_nanos() as i64;
        (at as usize).min(self.steps - 1)
    }
}

#[derive(Debug, Default)]
pub(super) struct Activity {
    pub(super) environment: String,
    pub(super) version: String,
    /// Within the range.
    pub(super) first_seen: Option<Nanos>,
    pub(super) last_seen: Option<Nanos>,
    pub(super) has_spans: bool,
    pub(super) has_samples: bool,
    /// Requests that failed.
    pub(super) errors: u64,
    /// Durations of all requests (server and consumer spans), in nanoseconds.
    pub(super) durations: Vec<i64>,
    /// Empty without requests.
    pub(super) steps: Vec<Step>,
    pub(super) logs: u64,
    /// Lines of the severity "error" and above.
    pub(super) error_logs: u64,
    pub(super) error_events: u64,
    /// Empty without lines.
    pub(super) log_steps: Vec<u64>,
    pub(super) cpu_cores: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
    /// When the newest span was seen: its resource says environment and version.
    described: Nanos,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) errors: u64,
    pub(super) durations: Vec<i64>,
}

/// Log records of one service in one step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LogCounts {
    pub(super) step: usize,
    pub(super) logs: u64,
    pub(super) error_logs: u64,
    pub(super) error_events: u64,
    pub(super) first: Nanos,
    pub(super) last: Nanos,
}

impl Activity {
    pub(super) fn seen(&mut self, first: Nanos, last: Nanos) {
        self.first_seen = Some(self.first_seen.map_or(first, |known| known.min(first)));
        self.last_seen = Some(self.last_seen.map_or(last, |known| known.max(last)));
    }

    /// What rates are taken over: from when the service was first seen in the range to its end, a moment at the least.
    /// Over the whole range a service that started three minutes ago would seem to do nothing.
    pub(super) fn window(&self, grid: Grid) -> Duration {
        let from = self.first_seen.unwrap_or(grid.range.from).max(grid.range.from);
        grid.range.to.since(from).max(SEEN_MIN.min(grid.step))
    }

    pub(super) fn signals(&self) -> Vec<&'static str> {
        let all = [
            (self.has_spans, "traces"),
            (self.logs > 0, "logs"),
            (self.error_events > 0, "errors"),
            (self.has_samples, "metrics"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, signal)| signal).collect()
    }

    pub(super) fn add_span(&mut self, stored: &StoredSpan, grid: Grid) {
        let span = &stored.span;
        self.has_spans = true;
        self.seen(span.start, span.start);
        if span.start >= self.described {
            self.described = span.start;
            let attributes = &stored.resource.attributes;
            let text = |keys: &[&str]| keys.iter().find_map(|key| attributes.get_str(key)).unwrap_or("").to_owned();
            self.version = text(&["service.version"]);
            self.environment = text(&["deployment.environment.name", "deployment.environment"]);
        }
        if !matches!(span.kind, SpanKind::Server | SpanKind::Consumer) {
            return;
        }
        self.steps.resize(grid.steps, Step::default());
        let at = grid.step_of(span.start);
        let is_error = span.status == SpanStatus::Error;
        self.errors += u64::from(is_error);
        self.steps[at].errors += u64::from(is_error);
        self.steps[at].durations.push(span.duration_nanos());
        self.durations.push(span.duration_nanos());
    }

    pub(super) fn add_logs(&mut self, counts: LogCounts, grid: Grid) {
        self.seen(counts.first, counts.last);
        self.error_events += counts.error_events;
        if counts.logs == 0 {
            return;
        }
        self.logs += counts.logs;
        self.error_logs += counts.error_logs;
        self.log_steps.resize(grid.steps, 0);
        self.log_steps[counts.step.min(grid.steps - 1)] += counts.logs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(seconds: i64) -> Grid {
        Grid::new(TimeRange::new(Nanos::from_secs(1000), Nanos(Nanos::from_secs(1000 + seconds).0 + 1)))
    }

    #[test]
    fn steps_are_whole_milliseconds_and_cover_the_range() {
        for (seconds, step_ms, steps) in [(3600, 60_000, 60), (100, 1667, 60), (0, 1, 1)] {
            let grid = grid(seconds);
            assert_eq!((grid.step.as_millis(), grid.steps), (step_ms, steps), "{seconds} s");
            assert_eq!(grid.step_of(grid.range.from), 0);
            assert_eq!(grid.step_of(grid.range.to), steps - 1);
        }
    }

    #[test]
    fn a_rate_is_taken_over_the_time_in_which_the_service_was_seen() {
        let grid = grid(3600);
        let mut activity = Activity::default();
        let at = |seconds: i64| Nanos::from_secs(1000 + seconds);
        assert_eq!(activity.window(grid).as_secs(), 3600, "nothing is known of when it began");
        activity.seen(at(3599), at(3600));
        assert_eq!(activity.window(grid).as_secs(), 10, "ten seconds at the least");
        activity.add_logs(LogCounts { step: 57, logs: 540, first: at(3420), last: at(3600), ..LogCounts::default() }, grid);
        assert_eq!(activity.window(grid).as_secs(), 180);
        assert_eq!(activity.signals(), ["logs"]);
        assert_eq!(activity.log_steps[57], 540);
    }
}
