//! Why a body, or a part of it, cannot be used.

use std::fmt;

pub type Result<T, E = WireError> = std::result::Result<T, E>;

/// Why nothing of a body can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not what the protocol says; the message tells where.
    #[error("{0}")]
    Malformed(String),
    /// A limit was reached; the message names it.
    #[error("{0}")]
    TooLarge(String),
    /// The body becomes larger than is allowed when it is unpacked.
    #[error("{0}")]
    GrowsTooLarge(String),
    /// What is made of the body takes more memory than [`crate::Limits::memory_bytes_max`].
    #[error("{0}")]
    NeedsMemory(String),
    /// A content type or content encoding that is not known here.
    #[error("{0}")]
    Unsupported(String),
}

impl WireError {
    pub(crate) fn malformed(message: impl fmt::Display) -> Self {
        Self::Malformed(message.to_string())
    }

    /// Says what was being read, in front of what is wrong.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Malformed(message) => Self::Malformed(format!("{what}: {message}")),
            Self::TooLarge(message) => Self::TooLarge(format!("{what}: {message}")),
            Self::GrowsTooLarge(message) => Self::GrowsTooLarge(format!("{what}: {message}")),
            Self::NeedsMemory(message) => Self::NeedsMemory(format!("{what}: {message}")),
            Self::Unsupported(message) => Self::Unsupported(format!("{what}: {message}")),
        }
    }

    /// The HTTP status that tells a sender the same.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooLarge(_) | Self::GrowsTooLarge(_) | Self::NeedsMemory(_) => 413,
            Self::Unsupported(_) => 415,
        }
    }
}

impl From<WireError> for br_std::Error {
    fn from(error: WireError) -> Self {
        match &error {
            WireError::TooLarge(message) | WireError::GrowsTooLarge(message) | WireError::NeedsMemory(message) => {
                Self::over_limit(message.clone()).with_source(error)
            }
            WireError::Malformed(message) | WireError::Unsupported(message) => {
                Self::fix_request(message.clone()).with_source(error)
            }
        }
    }
}

/// A part of a body that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which one, counted from zero in the order of the body, or [`Rejection::NO_INDEX`].
    pub index: usize,
    /// What it is and what is wrong with it.
    pub reason: String,
}

impl Rejection {
    /// Nobody knows any more which one it was: those before it that were refused are gone.
    pub const NO_INDEX: usize = usize::MAX;
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.index == Self::NO_INDEX {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.index, self.reason)
    }
}

/// How many complaints are kept in words; all are counted.
pub const REJECTIONS_KEPT_MAX: usize = 64;

/// What a body brings, and what of it was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded<T> {
    pub value: T,
    /// The first complaints, at most [`REJECTIONS_KEPT_MAX`].
    pub rejected: Vec<Rejection>,
    /// Records (samples, spans, log lines) that were refused.
    pub rejected_count: usize,
}

impl<T> Decoded<T> {
    pub fn new(value: T) -> Self {
        Self { value, rejected: Vec::new(), rejected_count: 0 }
    }

    /// Refuses `records` records at `index`, all for one reason.
    pub fn reject(&mut self, index: usize, records: usize, reason: impl Into<String>) {
        self.rejected_count += records;
        if self.rejected.len() < REJECTIONS_KEPT_MAX {
            self.rejected.push(Rejection { index, reason: reason.into() });
        }
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Decoded<U> {
        Decoded { value: change(self.value), rejected: self.rejected, rejected_count: self.rejected_count }
    }

    /// The complaints in one line for the sender; empty when there are none.
    pub fn message(&self) -> String {
        let shown: Vec<String> = self.rejected.iter().take(8).map(ToString::to_string).collect();
        let mut message = shown.join("; ");
        if self.rejected.len() > shown.len() {
            message.push_str("; …");
        }
        message
    }
}
