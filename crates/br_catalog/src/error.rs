//! What the database says, in the words of the house.

use br_std::{Error, Kind};
use std::path::Path;

/// SQLite's primary result codes, from its documentation "Result and Error Codes".
mod code {
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const NOT_A_DATABASE: u32 = 26;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const TOO_BIG: u32 = 18;
    pub(super) const CANNOT_OPEN: u32 = 14;
    pub(super) const PERMISSION: u32 = 3;
    pub(super) const READ_ONLY: u32 = 8;
}

pub(crate) fn convert(error: sqlx::Error, path: &Path) -> Error {
    let file = path.display();
    let kind = kind_of(&error);
    let message = match kind {
        Kind::Corrupt => damaged(path, &error),
        _ => format!("the catalog {file}: {error}"),
    };
    Error::new(kind, message).with_source(error)
}

/// Names the file and the way out, which [`crate::open_or_restore`] takes by itself.
pub(crate) fn damaged(path: &Path, what: &dyn std::fmt::Display) -> String {
    format!(
        "the catalog {file} is damaged ({what}): the next start moves it aside and puts its copy in its place; the journal and the \
         data files are not touched by this",
        file = path.display()
    )
}

fn kind_of(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(error) => {
            let primary = error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
            match primary {
                Some(code::CORRUPT | code::NOT_A_DATABASE) => Kind::Corrupt,
                Some(code::CONSTRAINT) => Kind::FixRequest,
                Some(code::TOO_BIG) => Kind::OverLimit,
                Some(code::CANNOT_OPEN | code::PERMISSION | code::READ_ONLY) => Kind::Unauthorized,
                // Busy, locked, full, input or output: all worth another try.
                _ => Kind::Retry,
            }
        }
        sqlx::Error::PoolClosed => Kind::Closed,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Kind::Corrupt,
        _ => Kind::Retry,
    }
}
