//! The one error that crosses crates: a kind that tells the caller what to do, a message that tells a person what happened.

use std::fmt;

/// What the caller should do about an [`Error`]. Each kind means one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Try again later: overload, a lock, a network that was away.
    Retry,
    /// The request itself is wrong; trying again as it is cannot help.
    FixRequest,
    /// The thing that was named does not exist.
    NotFound,
    /// A limit was reached; the message names it and says what to do.
    OverLimit,
    /// The caller may not do this.
    Unauthorized,
    /// Stored bytes are damaged.
    Corrupt,
    /// The part that was asked is shutting down, or was cancelled.
    Closed,
}

/// An error as it crosses crates.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Kind::Retry, message)
    }

    pub fn fix_request(message: impl Into<String>) -> Self {
        Self::new(Kind::FixRequest, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn over_limit(message: impl Into<String>) -> Self {
        Self::new(Kind::OverLimit, message)
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthorized, message)
    }

    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    pub fn closed(message: impl Into<String>) -> Self {
        Self::new(Kind::Closed, message)
    }

    /// Keeps what caused this error, for the log.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what was being done, in front of what happened.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A failed read or write is worth another try, except where the bytes or the name are at fault.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => Kind::Corrupt,
            std::io::ErrorKind::PermissionDenied => Kind::Unauthorized,
            _ => Kind::Retry,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}
