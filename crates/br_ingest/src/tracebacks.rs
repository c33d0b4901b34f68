//! Tracebacks whose lines come as syslog messages of their own: they become one message again.
//!
//! A message that may begin one is held until the next of its sender, for a moment at the most. All others pass by.

use br_std::Nanos;
use br_wire::fold::{Fold, Joined};
use br_wire::syslog::Heads;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// A message on its way to the journal.
pub(crate) struct Message {
    pub(crate) peer: Arc<str>,
    pub(crate) bytes: Vec<u8>,
    /// That of each message that it is made of.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// How long the next line of a traceback is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// A traceback that is longer than this goes on as another message.
const BYTES_MAX: usize = 256 << 10;
/// Messages that are held at once.
const HELD_MAX: usize = 1024;

/// Who wrote a message: the address, and the names in its head.
type Sender = (Arc<str>, [String; 3]);

struct Held {
    message: Message,
    fold: Fold,
    last_at: Instant,
}

pub(crate) struct Tracebacks {
    heads: Heads,
    held: BTreeMap<Sender, Held>,
}

impl Tracebacks {
    pub(crate) fn new(now: Nanos) -> Self {
        Self { heads: Heads::new(now), held: BTreeMap::new() }
    }

    /// Hands out what is whole, a message itself included where it is no part of a traceback.
    pub(crate) fn push(&mut self, message: Message, now: Instant, out: &mut Vec<Message>) {
        let is_of_held = self.held.keys().any(|(peer, _)| *peer == message.peer);
        if !is_of_held && !may_begin(&message.bytes) {
            out.push(message);
            return;
        }
        let whole = String::from_utf8_lossy(&message.bytes);
        let split = self.heads.split(&whole);
        let sender = self.sender(&message.peer, split.sender, &whole);
        let (mut fold, held) = match self.held.remove(&sender) {
            Some(held) => (held.fold, Some(held.message)),
            None => (Fold::default(), None),
        };
        let mut lines = split.text.split('\n');
        let first = fold.next(lines.next().unwrap_or_default());
        for line in lines {
            fold.next(line);
        }
        let joined = match held {
            Some(held) if first == Joined::Continues && held.bytes.len() + split.text.len() < BYTES_MAX => {
                held.joined_by(split.text, message.room)
            }
            held => {
                out.extend(held);
                message
            }
        };
        if fold.is_open() && self.held.len() < HELD_MAX {
            self.held.insert(sender, Held { message: joined, fold, last_at: now });
        } else {
            out.push(joined);
        }
    }

    /// A message without any head goes on with the last one of its peer: a line feed within a message may have made it.
    fn sender(&self, peer: &Arc<str>, names: [&str; 3], message: &str) -> Sender {
        if names.iter().all(|name| name.is_empty()) && !message.starts_with('<') {
            let mine = self.held.iter().filter(|((other, _), _)| other == peer);
            if let Some((sender, _)) = mine.max_by_key(|(_, held)| held.last_at) {
                return sender.clone();
            }
        }
        (peer.clone(), names.map(str::to_owned))
    }

    /// When the first of those that are held has been for long enough.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.values().map(|held| held.last_at + PATIENCE).min()
    }

    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Message>) {
        let expired = self.held.extract_if(.., |_, held| held.last_at + PATIENCE <= now);
        out.extend(expired.map(|(_, held)| held.message));
    }

    /// No more will come.
    pub(crate) fn finish(&mut self, out: &mut Vec<Message>) {
        out.extend(std::mem::take(&mut self.held).into_values().map(|held| held.message));
    }
}

impl Message {
    fn joined_by(mut self, text: &str, room: Option<OwnedSemaphorePermit>) -> Self {
        self.bytes.truncate(self.bytes.trim_ascii_end().len());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(text.as_bytes());
        match (&mut self.room, room) {
            (Some(mine), Some(more)) => mine.merge(more),
            (mine, more) => *mine = mine.take().or(more),
        }
        self
    }
}

/// What a message has that begins a traceback or announces one; few have.
fn may_begin(message: &[u8]) -> bool {
    let has = |word: &str| memchr::memmem::find(message, word.as_bytes()).is_some();
    ["Traceback (most recent", "ERROR", "CRITICAL", "xception"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages as they go on, each behind its peer, with `+` for line feeds; after `wait` those that were held.
    fn passed(messages: &[(&str, &str)], wait: Duration) -> [Vec<String>; 2] {
        let (mut tracebacks, now) = (Tracebacks::new(Nanos::from_secs(1_767_348_000)), Instant::now());
        let shown = |out: &mut Vec<Message>| {
            let each = out.drain(..).map(|one| format!("{} {}", one.peer, String::from_utf8_lossy(&one.bytes)));
            each.map(|text| text.replace('\n', "+")).collect::<Vec<_>>()
        };
        let mut out = Vec::new();
        for (peer, text) in messages {
            tracebacks.push(Message { peer: (*peer).into(), bytes: text.as_bytes().to_vec(), room: None }, now, &mut out);
        }
        let at_once = shown(&mut out);
        tracebacks.expire(now + wait, &mut out);
        [at_once, shown(&mut out)]
    }

    fn lines<'l>(peer: &'l str, head: &str, texts: &[&str]) -> Vec<(&'l str, String)> {
        texts.iter().map(|text| (peer, format!("{head}{text}"))).collect()
    }

    fn check(messages: &[(&str, String)], wait: Duration, expect: [&[&str]; 2]) {
        let messages: Vec<(&str, &str)> = messages.iter().map(|(peer, text)| (*peer, text.as_str())).collect();
        assert_eq!(passed(&messages, wait), expect.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
    }

    const HEAD: &str = "<11>Nov 27 03:03:03 web shop[7]: ";
    const TRACEBACK: [&str; 3] = ["Traceback (most recent call last):", "  File \"a.py\", line 1, in f", "ValueError: bad"];
    const WHOLE: &str =
        "p <11>Nov 27 03:03:03 web shop[7]: Traceback (most recent call last):+  File \"a.py\", line 1, in f+ValueError: bad";

    #[test]
    fn lines_of_one_sender_become_one_message() {
        let mut messages = lines("p", HEAD, &TRACEBACK);
        check(&messages, PATIENCE, [&[], &[WHOLE]]);
        check(&messages, PATIENCE / 2, [&[], &[]]);
        // Another program, another machine, and then the first one again.
        messages.insert(1, ("p", "<14>Nov 27 03:03:03 web cart[8]: paid".to_owned()));
        messages.insert(2, ("q", HEAD.to_owned() + "from elsewhere"));
        messages.extend(lines("p", HEAD, &["next"]));
        let passed_by = ["p <14>Nov 27 03:03:03 web cart[8]: paid", "q <11>Nov 27 03:03:03 web shop[7]: from elsewhere"];
        let next = "p <11>Nov 27 03:03:03 web shop[7]: next";
        check(&messages, PATIENCE, [&[passed_by[0], passed_by[1], WHOLE, next], &[]]);
    }

    #[test]
    fn lines_without_a_head_go_on_with_the_last() {
        let mut messages = lines("p", HEAD, &TRACEBACK[..1]);
        messages.extend(lines("p", "", &TRACEBACK[1..]));
        check(&messages, PATIENCE, [&[], &[WHOLE]]);
    }

    #[test]
    fn what_is_no_traceback_is_held_for_a_moment_at_the_most() {
        let messages = lines("p", HEAD, &["ERROR one", "ERROR two", "paid"]);
        let expect = ["ERROR one", "ERROR two", "paid"].map(|text| format!("p {HEAD}{text}"));
        check(&messages, PATIENCE, [&[&expect[0], &expect[1], &expect[2]], &[]]);
    }
}
