//! The outside world behind traits: clock, randomness, disk.
//!
//! Nothing above may ask the operating system for these things directly (`clippy.toml` says so).
//! The real ones are in [`real`]; [`sim`] has ones that replay by seed and lose what was not synced when the power goes.

pub mod clock;
pub mod disk;
pub mod real;
pub mod rng;
pub mod sim;

pub use clock::Clock;
pub use disk::{Disk, DiskFile};
pub use rng::Rng;

use std::sync::Arc;

/// What a part of the system gets to see of the world.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub disk: Arc<dyn Disk>,
}
