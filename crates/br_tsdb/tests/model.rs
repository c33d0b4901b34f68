//! The store against a naive model: appends, deletions, flushes, compactions and restarts in any order.

mod common;

use br_storage::MatchOp;
use br_tsdb::TsdbOptions;
use common::{Store, T0, matcher};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Append {
        series: u8,
        time: i64,
        value: u8,
    },
    Flush,
    Compact,
    Restart,
    /// Of the series below this number.
    Delete {
        below: u8,
        from: i64,
        length: i64,
    },
    Rewrite,
    Query {
        from: i64,
        length: i64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let time = 0i64..12_000;
    prop_oneof![
        12 => (0u8..4, time.clone(), any::<u8>()).prop_map(|(series, time, value)| Step::Append { series, time, value }),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
        1 => (0u8..4, time.clone(), 0i64..9000).prop_map(|(below, from, length)| Step::Delete { below, from, length }),
        1 => Just(Step::Rewrite),
        2 => (time, 0i64..6000).prop_map(|(from, length)| Step::Query { from, length }),
    ]
}

/// One kind of series each: small whole numbers, decimals, any bits, constants.
fn value_of(series: u8, value: u8) -> f64 {
    match series {
        0 => f64::from(value),
        1 => f64::from(value) / 100.0,
        2 => f64::from_bits(0x7ff0_0000_0000_0000 ^ u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        _ => 1.0,
    }
}

type Model = BTreeMap<String, BTreeMap<i64, u64>>;

fn expected(model: &Model, from: i64, to: i64) -> BTreeMap<String, Vec<(i64, u64)>> {
    let cut = |samples: &BTreeMap<i64, u64>| samples.range(from..=to).map(|(time, bits)| (*time, *bits)).collect::<Vec<_>>();
    let all = model.iter().map(|(series, samples)| (series.clone(), cut(samples)));
    all.filter(|(_, samples)| !samples.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn answers_as_the_model(
        steps in prop::collection::vec(any_step(), 1..120),
        retained_bytes_max in prop_oneof![Just(0), Just(200), Just(64 << 20)],
    ) {
        let mut store = Store::with(TsdbOptions { retained_bytes_max, ..TsdbOptions::default() });
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Append { series, time, value } => {
                    let name = format!("s{series}");
                    // Four hours in steps of a second or so: samples fall into several windows and out of order.
                    let time = T0 + time * 1201;
                    let value = value_of(series, value);
                    store.now_ms = T0 + 4 * 3_600_000;
                    let outcome = store.floats(&name, &[(time, value)]);
                    let samples = model.entry(name).or_default();
                    if outcome.accepted == 1 {
                        samples.entry(time).or_insert(value.to_bits());
                    } else if outcome.repeated == 1 {
                        prop_assert_eq!(samples.get(&time), Some(&value.to_bits()));
                    } else if outcome.rejected_count() == 1 {
                        let newest = samples.keys().next_back().copied().unwrap_or(i64::MIN);
                        prop_assert!(samples.contains_key(&time) || time < newest - 30 * 60_000, "refused without a reason");
                    }
                }
                Step::Flush => store.flush(),
                Step::Compact => {
                    store.compact_all();
                }
                Step::Restart => {
                    store.flush();
                    store.reopen();
                }
                Step::Delete { below, from, length } => {
                    let (from, to) = (T0 + from * 1201, T0 + (from + length) * 1201);
                    let names: Vec<String> = (0..=below).map(|series| format!("s{series}")).collect();
                    store.delete(vec![matcher(MatchOp::Regex, "__name__", &names.join("|"))], from, to);
                    for (_, samples) in model.iter_mut().filter(|(name, _)| names.contains(name)) {
                        samples.retain(|time, _| !(from..=to).contains(time));
                    }
                }
                Step::Rewrite => {
                    store.rewrite_all();
                }
                Step::Query { from, length } => {
                    let (from, to) = (T0 + from * 1201, T0 + (from + length) * 1201);
                    prop_assert_eq!(store.dump(from, to), expected(&model, from, to));
                }
            }
        }
        prop_assert_eq!(store.dump(i64::MIN, i64::MAX), expected(&model, i64::MIN, i64::MAX));
        store.flush();
        store.rewrite_all();
        prop_assert_eq!(store.dump_files(), expected(&model, i64::MIN, i64::MAX), "in the files");
    }
}
