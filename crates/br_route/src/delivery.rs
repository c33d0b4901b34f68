//! When to try a message again, and when to give up.

use br_std::Nanos;
use std::time::Duration;

/// What came of one attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver answered.
    Answered {
        status: u16,
        /// From its `Retry-After`, see [`retry_after`].
        retry_after: Option<Duration>,
    },
    /// No answer: refused, cut off, timed out. The text says which.
    NoAnswer { reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    Retry { at: Nanos, reason: String },
    Dead { reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; doubled with each that follows.
    pub wait_min: Duration,
    /// Waits grow no longer than this. A receiver may ask for more, up to an hour.
    pub wait_max: Duration,
    /// A message that could not be delivered for this long is given up. Less than a day counts as a day.
    pub give_up_after: Duration,
}

/// What no configuration may undercut: a receiver that is away overnight still gets its messages.
pub const GIVE_UP_AFTER_MIN: Duration = Duration::from_hours(24);
/// A receiver that asks for a longer silence is asked again after this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { wait_min: Duration::from_secs(1), wait_max: Duration::from_mins(5), give_up_after: Duration::from_hours(72) }
    }
}

/// Decides after an attempt. `attempts_failed` counts those before this one, `first_at` is when the message was queued,
/// `jitter` any random number: it spreads the attempts of many messages.
pub fn decide(
    policy: RetryPolicy,
    attempt: &Attempt,
    attempts_failed: u32,
    first_at: Nanos,
    now: Nanos,
    jitter: u64,
) -> Decision {
    let (reason, asked) = match attempt {
        Attempt::Answered { status: 200..=299, .. } => return Decision::Delivered,
        Attempt::Answered { status, retry_after } if is_retryable(*status) => (format!("HTTP status {status}"), *retry_after),
        Attempt::Answered { status, .. } => {
            return Decision::Dead { reason: format!("HTTP status {status}: trying again cannot help") };
        }
        Attempt::NoAnswer { reason } => (reason.clone(), None),
    };
    let give_up_after = policy.give_up_after.max(GIVE_UP_AFTER_MIN);
    if now.since(first_at) >= give_up_after {
        let hours = give_up_after.as_secs() / 3600;
        return Decision::Dead { reason: format!("not delivered within {hours} h; last: {reason}") };
    }
    let doubled = policy.wait_min.saturating_mul(1u32.checked_shl(attempts_failed.min(31)).unwrap_or(u32::MAX));
    let wait = spread(doubled.min(policy.wait_max), jitter);
    let wait = asked.map_or(wait, |asked| asked.min(RETRY_AFTER_MAX).max(wait));
    Decision::Retry { at: now + wait, reason }
}

/// Overload, timeouts and the receiver's own faults pass; a redirect or a refusal stays.
fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// Between half of `wait` and the whole.
fn spread(wait: Duration, jitter: u64) -> Duration {
    let half = wait.as_nanos() as u64 / 2;
    Duration::from_nanos(half + ((u128::from(jitter) * u128::from(half + 1)) >> 64) as u64)
}

/// Reads the header `Retry-After`: seconds, or a date as HTTP writes it.
pub fn retry_after(header: &str, now: Nanos) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    let at = Nanos(i64::try_from(at.as_nanosecond()).ok()?);
    Some(at.since(now))
}
