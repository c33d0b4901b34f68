//! Answers as JSON text, written next to the query that found them: the text counts against its budget as it grows.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use br_model::Labels;
use br_std::{Error, Result};
use br_storage::Budget;
use serde::{Serialize, Serializer};
use std::io;

/// The text of an answer, charged until the query ends.
pub(crate) fn json(answer: &impl Serialize, budget: &Budget) -> Result<String> {
    text(budget, |out| serde_json::to_writer(out, answer).map_err(io::Error::from))
}

/// The same of what is written in another way.
pub(crate) fn text(budget: &Budget, write: impl FnOnce(&mut Text<'_>) -> io::Result<()>) -> Result<String> {
    let mut out = Text { out: Vec::new(), budget, refused: None };
    let written = write(&mut out);
    if let Some(refused) = out.refused {
        return Err(refused.context("writing the answer"));
    }
    written.map_err(|error| Error::corrupt(format!("the answer cannot be written: {error}")))?;
    String::from_utf8(out.out).map_err(|error| Error::corrupt(format!("the answer is no text: {error}")))
}

/// Room is paid for before it is there.
pub(crate) struct Text<'b> {
    out: Vec<u8>,
    budget: &'b Budget,
    refused: Option<Error>,
}

impl io::Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = self.out.capacity() - self.out.len();
        if free < bytes.len() {
            let more = (bytes.len() - free).max(self.out.capacity() / 2).max(256);
            if let Err(refused) = self.budget.charge(more as u64) {
                self.refused = Some(refused);
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            self.out.reserve_exact(free + more);
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn response(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// A list of which each item is made when it is written.
pub(crate) struct Each<F>(pub(crate) F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: IntoIterator,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Labels as an object.
pub(crate) struct Shown<'l>(pub(crate) &'l Labels);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::Kind;

    #[test]
    fn a_text_is_paid_for_before_it_is_there() {
        let items = Each(|| (0..100_000).map(|at| (at, "text")));
        let budget = Budget::new(1 << 20);
        let error = json(&items, &budget).expect_err("about 1.3 MB");
        assert!(error.kind() == Kind::OverLimit && error.message().starts_with("writing the answer"), "{error}");
        let budget = Budget::new(4 << 20);
        let text = json(&items, &budget).expect("enough");
        assert!(text.starts_with(r#"[[0,"text"],[1,"#) && text.ends_with(r#""text"]]"#));
        assert!(budget.bytes_used() >= text.capacity() as u64);
        assert_eq!(json(&Shown(&Labels::from_pairs([("a", "\"")])), &budget).expect("small"), r#"{"a":"\""}"#);
    }
}
