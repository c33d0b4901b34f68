//! Whatever is searched for in Jaeger's form becomes TraceQL that can be read.
#![no_main]

use br_wire::jaeger::TraceFilter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split('\0').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (service, operation) = (word(), word());
    let tags = vec![(format!("a{}", word()), word()), (format!("b{}", word()), word())];
    let filter = TraceFilter { service, operation, tags, duration_min_nanos: Some(1), duration_max_nanos: None };
    let query = filter.to_traceql();
    br_traceql::parse(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
});
