//! A bulk body with its answer, and the same bytes as lines of JSON: each action has an outcome, each record an action.
#![no_main]

use br_std::Nanos;
use br_wire::{Limits, elastic, ndjson};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    if let Ok(decoded) = elastic::decode(bytes, "i", Nanos(1), &limits) {
        let mut items = decoded.value.items;
        assert_eq!(items.items.len() - decoded.rejected_count, decoded.value.logs.record_count());
        let answer = elastic::answer(&items, 1, false);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("the answer is JSON");
        assert_eq!(answer["items"].as_array().map(Vec::len), Some(items.items.len()));
        for place in 0..decoded.value.logs.record_count() {
            items.refuse_record(place, String::new());
        }
        assert!(items.items.iter().all(|item| item.refusal.is_some()), "each record has an action of its own");
    }
    let fields = ndjson::Fields { time: "t", message: "m,a.b", stream: "s" };
    for fields in [fields, ndjson::Fields::default()] {
        let _ = ndjson::decode(bytes, fields, Nanos(1), &limits);
    }
});
