//! Exemplars of one series, in time order.

use super::{expect_end, put_f64, take_bytes, take_count, take_f64, take_i64};
use br_model::{Exemplar, Labels};
use br_std::{Error, Result, varint};

pub(crate) fn encode(exemplars: &[Exemplar]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put_u64(&mut out, exemplars.len() as u64);
    for exemplar in exemplars {
        varint::put_i64(&mut out, exemplar.timestamp_ms);
        put_f64(&mut out, exemplar.value);
        varint::put_u64(&mut out, exemplar.labels.len() as u64);
        for (name, value) in exemplar.labels.iter() {
            put_text(&mut out, name);
            put_text(&mut out, value);
        }
    }
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Exemplar>> {
    let mut input = bytes;
    let count = take_count(&mut input, 10, "exemplars")?;
    let mut exemplars = Vec::with_capacity(count);
    for _ in 0..count {
        let timestamp_ms = take_i64(&mut input, "an exemplar's time")?;
        let value = take_f64(&mut input, "an exemplar's value")?;
        let labels = take_count(&mut input, 2, "an exemplar's labels")?;
        let pairs = (0..labels).map(|_| Ok((take_text(&mut input)?, take_text(&mut input)?))).collect::<Result<Vec<_>>>()?;
        exemplars.push(Exemplar { labels: Labels::from_pairs(pairs), value, timestamp_ms });
    }
    expect_end(input, "the exemplars")?;
    Ok(exemplars)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    varint::put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a str> {
    let length = take_count(input, 1, "a text's length")?;
    let bytes = take_bytes(input, length, "a text")?;
    std::str::from_utf8(bytes).map_err(|error| Error::corrupt("damaged chunk: a label is not UTF-8").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(parts in prop::collection::vec((any::<i64>(), -1e9f64..1e9, ".{1,8}", ".{1,8}"), 0..8)) {
            let exemplars: Vec<Exemplar> = parts
                .into_iter()
                .map(|(timestamp_ms, value, name, text)| Exemplar { labels: Labels::from_pairs([(name, text)]), value, timestamp_ms })
                .collect();
            prop_assert_eq!(decode(&encode(&exemplars)).expect("own bytes"), exemplars);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
