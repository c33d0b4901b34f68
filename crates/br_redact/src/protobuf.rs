//! Protobuf in place: texts are found by the fields that they stand in, so that no length before and no tag behind a text is taken
//! for a part of it. Lengths stay, and with them all that stands around.

use crate::keys::Secrecy;
use crate::messages::{Field, Message};
use crate::pass::{Pass, Under};
use crate::rule::{Rule, RuleId};
use crate::rules::card;
use br_std::hash::hash64;
use br_std::varint;
use std::ops::Range;

/// Values inside values; deeper ones are looked at as bytes.
const DEPTH_MAX: usize = 64;

/// One field: its number, what its wire type is, and where its value stands.
struct Part {
    number: u64,
    wire: u64,
    place: Range<usize>,
}

const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// The field that begins here, and where the next one does.
fn part(source: &[u8], at: usize, end: usize) -> Option<(Part, usize)> {
    let mut rest = source.get(at..end)?;
    let tag = varint::take_u64(&mut rest)?;
    let start = end - rest.len();
    let (wire, number) = (tag & 7, tag >> 3);
    let place = match wire {
        VARINT => {
            varint::take_u64(&mut rest)?;
            start..end - rest.len()
        }
        1 => start..start.checked_add(8)?,
        5 => start..start.checked_add(4)?,
        BYTES => {
            let length = usize::try_from(varint::take_u64(&mut rest)?).ok()?;
            let start = end - rest.len();
            start..start.checked_add(length)?
        }
        _ => return None,
    };
    let next = place.end;
    (number != 0 && next <= end).then_some((Part { number, wire, place }, next))
}

/// Where the fields end that are labels: all before the first other one.
fn labels_end(source: &[u8], place: &Range<usize>) -> usize {
    const LABEL: u8 = 1 << 3 | BYTES as u8;
    let mut at = place.start;
    // Labels of fewer than 128 bytes, as nearly all are.
    while let Some([LABEL, length @ 0..0x80]) = source[at..place.end].first_chunk() {
        let next = at + 2 + usize::from(*length);
        if next > place.end {
            return at;
        }
        at = next;
    }
    while let Some((Part { number: 1, wire: BYTES, .. }, next)) = part(source, at, place.end) {
        at = next;
    }
    at
}

impl Pass<'_> {
    /// Reads a message. What is no protobuf is looked at as bytes from where it ceases to be.
    pub(crate) fn message(&mut self, place: Range<usize>, message: &Message) {
        let mut at = place.start;
        while at < place.end {
            let Some((part, next)) = part(self.source, at, place.end) else { return self.raw(at..place.end) };
            if part.wire == BYTES {
                self.field(part.place, message.field(part.number));
            }
            at = next;
        }
    }

    fn field(&mut self, place: Range<usize>, field: &Field) {
        match field {
            Field::Skip => {}
            Field::Raw => self.unknown(place),
            Field::Text | Field::Symbols => self.text(place, Under::NOTHING),
            Field::OfResource(message) if self.redactor.has_services => {
                let service = self.service(place.clone());
                let source = self.source;
                let before = self.enter_service(service.map_or(&b""[..], |service| &source[service]));
                self.message(place, message);
                self.scope = before;
            }
            Field::Message(message) | Field::OfResource(message) => self.message(place, message),
            Field::Series(message) => self.series(place, message),
            Field::Attribute => self.attribute(place, Under::NOTHING, 0),
            Field::AnyValue => self.any_value(place, Under::NOTHING, 0),
            Field::Label => self.label(place),
        }
    }

    /// A series whose labels are known to be clean is looked at from behind them.
    fn series(&mut self, place: Range<usize>, message: &Message) {
        let labels_end = labels_end(self.source, &place);
        let hash = hash64(&self.source[place.start..labels_end]);
        if self.redactor.clean.knows(hash) {
            return self.message(labels_end..place.end, message);
        }
        let before: u64 = self.counts.iter().sum();
        self.message(place.start..labels_end, message);
        if self.counts.iter().sum::<u64>() == before {
            self.redactor.clean.learn(hash);
        }
        self.message(labels_end..place.end, message);
    }

    /// A text as a whole where it is one, else what in it looks like text.
    fn unknown(&mut self, place: Range<usize>) {
        let bytes = &self.source[place.clone()];
        let is_text = !bytes.iter().any(|byte| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r'))
            && std::str::from_utf8(bytes).is_ok();
        if is_text { self.text(place, Under::NOTHING) } else { self.raw(place) }
    }

    /// The first field with this number that has bytes.
    fn inner(&self, place: &Range<usize>, number: u64) -> Option<Range<usize>> {
        let mut at = place.start;
        while at < place.end {
            let (part, next) = part(self.source, at, place.end)?;
            if part.number == number && part.wire == BYTES {
                return Some(part.place);
            }
            at = next;
        }
        None
    }

    /// In OTLP an attribute of the resource, in Zipkin the name of the local endpoint.
    fn service(&self, place: Range<usize>) -> Option<Range<usize>> {
        if let Some(endpoint) = self.inner(&place, 8) {
            return self.inner(&endpoint, 1);
        }
        let resource = self.inner(&place, 1)?;
        let mut at = resource.start;
        while at < resource.end {
            let (part, next) = part(self.source, at, resource.end)?;
            let is_service = |key: Range<usize>| &self.source[key] == b"service.name";
            if part.number == 1 && part.wire == BYTES && self.inner(&part.place, 1).is_some_and(is_service) {
                return self.inner(&self.inner(&part.place, 2)?, 1);
            }
            at = next;
        }
        None
    }

    fn attribute(&mut self, place: Range<usize>, above: Under<'_>, depth: usize) {
        let source = self.source;
        let key = self.inner(&place, 1).map_or(&b""[..], |key| &source[key]);
        let under = self.under(key, above);
        let mut at = place.start;
        while at < place.end {
            let Some((part, next)) = part(source, at, place.end) else { return self.raw(at..place.end) };
            match (part.number, part.wire) {
                (1, BYTES) => self.text(part.place, Under::NOTHING),
                (2, BYTES) => self.any_value(part.place, under, depth),
                (_, BYTES) => self.unknown(part.place),
                _ => {}
            }
            at = next;
        }
    }

    fn any_value(&mut self, place: Range<usize>, under: Under<'_>, depth: usize) {
        if depth >= DEPTH_MAX {
            return self.raw(place);
        }
        let source = self.source;
        let mut at = place.start;
        while at < place.end {
            let Some((part, next)) = part(source, at, place.end) else { return self.raw(at..place.end) };
            match (part.number, part.wire) {
                (1, BYTES) => self.text(part.place, under),
                (3, VARINT) => self.integer(part.place, under),
                (5, BYTES) => self.each(part.place, under, |pass, value| pass.any_value(value, under, depth + 1)),
                (6, BYTES) => self.each(part.place, under, |pass, pair| pass.attribute(pair, under, depth + 1)),
                (7, BYTES) if std::str::from_utf8(&source[part.place.clone()]).is_ok() => self.text(part.place, under),
                (_, BYTES) => self.raw(part.place),
                _ => {}
            }
            at = next;
        }
    }

    /// The values of a list.
    fn each(&mut self, place: Range<usize>, under: Under<'_>, mut look: impl FnMut(&mut Self, Range<usize>)) {
        let mut at = place.start;
        while at < place.end {
            let Some((part, next)) = part(self.source, at, place.end) else { return self.text(at..place.end, under) };
            match (part.number, part.wire) {
                (1, BYTES) => look(self, part.place),
                (_, BYTES) => self.unknown(part.place),
                _ => {}
            }
            at = next;
        }
    }

    fn integer(&mut self, place: Range<usize>, under: Under<'_>) {
        let mut bytes = &self.source[place.clone()];
        let Some(number) = varint::take_u64(&mut bytes) else { return };
        if under.secrecy == Some(Secrecy::Certain) && self.scope.rules.has(Rule::KeyName) {
            self.zero_varint(place, Rule::KeyName as RuleId);
        } else if self.scope.rules.has(Rule::Card) && number >= 1_000_000_000_000 && card::is_card(number, under.key) {
            self.zero_varint(place, Rule::Card as RuleId);
        }
    }

    fn label(&mut self, place: Range<usize>) {
        let source = self.source;
        let key = self.inner(&place, 1).map_or(&b""[..], |key| &source[key]);
        let under = self.under(key, Under::NOTHING);
        let mut at = place.start;
        while at < place.end {
            let Some((part, next)) = part(source, at, place.end) else { return self.raw(at..place.end) };
            match (part.number, part.wire) {
                (1, BYTES) => self.text(part.place, Under::NOTHING),
                (2, BYTES) => self.text(part.place, under),
                (_, BYTES) => self.unknown(part.place),
                _ => {}
            }
            at = next;
        }
    }
}
