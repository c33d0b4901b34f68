//! Time.

use br_std::Nanos;
use std::time::Duration;

pub trait Clock: Send + Sync {
    /// Wall-clock time. May jump, also backwards.
    fn now(&self) -> Nanos;

    /// Time since some fixed point. Never goes backwards; for timers and for measuring.
    fn monotonic(&self) -> Duration;
}
