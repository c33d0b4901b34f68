//! Searching and measuring, through the public API, over spans in memory.

use br_model::{AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanStatus, TraceId};
use br_std::{Nanos, Result};
use br_storage::{Budget, SpanCursor, SpanHint, SpanParts, SpanQuery, SpanSource, StoredSpan, TakeTrace, TimeRange};
use br_traceql::{Expr, MetricOptions, Rank, SearchOptions, TraceMatch, ast::Root, parse, query_range, search, span_hints};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Default)]
struct MemorySpans(Vec<StoredSpan>);

struct MemoryCursor(std::vec::IntoIter<StoredSpan>);

impl SpanCursor for MemoryCursor {
    /// Small batches, so that windows end in the middle of the scan.
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        let batch: Vec<StoredSpan> = self.0.by_ref().take(2).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

impl SpanSource for MemorySpans {
    fn scan<'a>(&'a self, query: &SpanQuery, _: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        Ok(Box::new(self.cursor(query)))
    }

    fn traces(&self, wanted: &[(TraceId, TimeRange)], _: &SpanParts, _: &Budget, take: &mut TakeTrace<'_>) -> Result<()> {
        for (id, range) in wanted {
            let is_wanted = |stored: &&StoredSpan| stored.span.trace_id == *id && range.contains(stored.span.start);
            let spans: Vec<StoredSpan> = self.0.iter().filter(is_wanted).cloned().collect();
            if !spans.is_empty() && !take(*id, spans)? {
                break;
            }
        }
        Ok(())
    }

    fn services(&self, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn operations(&self, _: &str, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl MemorySpans {
    fn cursor(&self, query: &SpanQuery) -> MemoryCursor {
        let mut spans: Vec<StoredSpan> =
            self.0.iter().filter(|stored| query.range.contains(stored.span.start)).cloned().collect();
        spans.sort_by_key(|stored| std::cmp::Reverse(stored.span.start));
        MemoryCursor(spans.into_iter())
    }

    /// Ids are numbers; parent 0 is none. Times in seconds.
    fn add(
        &mut self,
        trace: u8,
        (id, parent): (u8, u8),
        service: &str,
        name: &str,
        (start, length): (i64, i64),
    ) -> &mut StoredSpan {
        let resource = Resource { attributes: Attributes::from_iter([("service.name", service.to_owned())]) };
        let span = Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId([id; 8]),
            parent_span_id: SpanId([parent; 8]),
            name: name.to_owned(),
            start: Nanos::from_secs(start),
            end: Nanos::from_secs(start + length),
            ..Span::default()
        };
        self.0.push(StoredSpan { resource: Arc::new(resource), scope: Arc::new(Scope::default()), span });
        self.0.last_mut().expect("just pushed")
    }
}

/// Two shop traces: 1 is slow and fails in the database, 2 comes two hours later and goes well.
fn shop() -> MemorySpans {
    let mut spans = MemorySpans::default();
    spans.add(1, (1, 0), "web", "GET /cart", (100, 10)).span.kind = SpanKind::Server;
    spans.add(1, (2, 1), "web", "render", (101, 2));
    spans.add(1, (3, 1), "pay", "charge", (103, 6)).span.attributes.push("amount", 40i64);
    let query = &mut spans.add(1, (4, 3), "pay", "select", (104, 4)).span;
    query.status = SpanStatus::Error;
    query.attributes.push("db.system", "postgresql".to_owned());
    query.attributes.0.push(("tags".to_owned(), AttributeValue::Array(vec!["a".to_owned().into(), "b".to_owned().into()])));
    query.events.push(SpanEvent {
        timestamp: Nanos::from_secs(105),
        name: "exception".to_owned(),
        attributes: Attributes::from_iter([("exception.type", "KeyError".to_owned())]),
    });
    spans.add(2, (1, 0), "web", "GET /", (7300, 1)).span.kind = SpanKind::Server;
    spans.add(2, (2, 1), "web", "render", (7300, 1)).span.attributes.push("amount", 7.5);
    spans
}

fn expr(text: &str) -> Expr {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn find(text: &str, limit: usize) -> Vec<TraceMatch> {
    let options = SearchOptions { range: TimeRange::ALL, limit, spans_per_spanset: 10, after: None };
    search(&shop(), &expr(text), text, &options, &Budget::unlimited()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// `expect` names the traces, newest first, with the spans of each spanset by name: `2:render 1:charge,select`.
fn check(text: &str, expect: &str) {
    let names = |found: &TraceMatch| {
        let sets: Vec<String> = found
            .spansets
            .iter()
            .map(|set| set.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>().join(","))
            .collect();
        format!("{}:{}", found.trace_id.0[0], sets.join("|"))
    };
    let found: Vec<String> = find(text, 20).iter().map(names).collect();
    assert_eq!(found.join(" "), expect, "{text}");
}

#[test]
fn filters() {
    check("{ status = error }", "1:select");
    check("{ name = `render` }", "2:render 1:render");
    check(r#"{ resource.service.name = "pay" && duration > 5s }"#, "1:charge");
    check("{ .amount > 7 }", "2:render 1:charge");
    check("{ span.amount / 2 = 20 }", "1:charge");
    check(r#"{ span.tags = "b" }"#, "1:select");
    check(r#"{ event.exception.type =~ "Key.*" }"#, "1:select");
    check("{ event:timeSinceStart >= 1s }", "1:select");
    check("{ span.amount != nil && !(span.amount > 20) }", "2:render");
    check("{ span:childCount = 2 }", "1:GET /cart");
    check("{ nestedSetParent < 0 }", "2:GET / 1:GET /cart");
    check(r#"{ rootName = "GET /" && name = "render" }"#, "2:render");
    check(r#"{ parent.name = "charge" }"#, "1:select");
    check(r#"{ name = "nothing" }"#, "");
}

#[test]
fn structure() {
    check("{ kind = server } > { }", "2:render 1:render,charge");
    check("{ kind = server } >> { status = error }", "1:select");
    check("{ status = error } << { kind = server }", "1:GET /cart");
    check("{ status = error } < { }", "1:charge");
    check(r#"{ name = "charge" } ~ { }"#, "1:render");
    check("{ kind = server } !>> { }", "2:GET / 1:GET /cart");
    check("{ kind = server } &>> { status = error }", "1:GET /cart,select");
    check("{ status = error } && { kind = server }", "1:GET /cart,select");
    check(r#"{ status = error } || { name = "GET /" }"#, "2:GET / 1:select");
}

#[test]
fn pipelines() {
    check("{ } | count() > 2", "1:GET /cart,render,charge,select");
    check("{ } | max(duration) / min(duration) >= 5", "1:GET /cart,render,charge,select");
    check("{ } | by(resource.service.name) | count() > 1", "2:GET /,render 1:charge,select|GET /cart,render");
    check("{ } | by(resource.service.name) | coalesce() | count() = 4", "1:GET /cart,render,charge,select");
    check("({ } | avg(duration) > 5s) && { kind = server }", "1:GET /cart,render,charge,select");
    let found = find("{ status = error } | select(span.db.system)", 1);
    let span = &found[0].spansets[0].spans[0];
    assert!(span.attributes.contains(&("span.db.system".to_owned(), "postgresql".to_owned().into())), "{span:?}");
    assert_eq!((found[0].root_service.as_str(), found[0].duration_nanos), ("web", 10_000_000_000));
}

#[test]
fn newest_first_and_no_more_than_asked_for() {
    let found = find("{ }", 1);
    assert_eq!(found.iter().map(|found| found.trace_id.0[0]).collect::<Vec<_>>(), [2]);
}

/// Counts what a search takes.
struct Counted {
    spans: MemorySpans,
    /// Whether the cursor can tell how new the rest is.
    tells_times: bool,
    rows: AtomicUsize,
    traces: AtomicUsize,
    /// How often the source was asked for traces.
    passes: AtomicUsize,
}

struct CountedCursor<'a> {
    inner: MemoryCursor,
    of: &'a Counted,
}

impl SpanCursor for CountedCursor<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        let batch = self.inner.next_batch()?;
        self.of.rows.fetch_add(batch.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
        Ok(batch)
    }

    fn newest_left(&self) -> Option<Nanos> {
        let next = self.inner.0.as_slice().first();
        self.of.tells_times.then(|| next.map_or(Nanos::MIN, |stored| stored.span.start))
    }
}

impl SpanSource for Counted {
    fn scan<'a>(&'a self, query: &SpanQuery, _: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        Ok(Box::new(CountedCursor { inner: self.spans.cursor(query), of: self }))
    }

    fn traces(
        &self,
        wanted: &[(TraceId, TimeRange)],
        parts: &SpanParts,
        budget: &Budget,
        take: &mut TakeTrace<'_>,
    ) -> Result<()> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.spans.traces(wanted, parts, budget, &mut |id, spans| {
            self.traces.fetch_add(1, Ordering::Relaxed);
            take(id, spans)
        })
    }

    fn services(&self, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn operations(&self, _: &str, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl Counted {
    fn new(spans: MemorySpans, tells_times: bool) -> Self {
        Self { spans, tells_times, rows: AtomicUsize::new(0), traces: AtomicUsize::new(0), passes: AtomicUsize::new(0) }
    }

    fn find(&self, text: &str, limit: usize) -> Vec<TraceMatch> {
        let options = SearchOptions { range: TimeRange::ALL, limit, spans_per_spanset: 10, after: None };
        search(self, &expr(text), text, &options, &Budget::unlimited()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Spans that were handed out and traces that were read since the last time.
    fn taken(&self) -> (usize, usize) {
        (self.rows.swap(0, Ordering::Relaxed), self.traces.swap(0, Ordering::Relaxed))
    }
}

#[test]
fn both_halves_of_a_shared_span_count() {
    let mut spans = MemorySpans::default();
    spans.add(1, (1, 0), "web", "GET /", (100, 10)).span.kind = SpanKind::Server;
    // The clock of the server goes before the client's.
    spans.add(1, (2, 1), "shop", "stock", (100, 3)).span.kind = SpanKind::Server;
    spans.add(1, (2, 1), "web", "stock", (101, 5)).span.kind = SpanKind::Client;
    spans.add(1, (3, 2), "shop", "select", (102, 1));
    spans.add(1, (4, 2), "web", "retry", (102, 1));
    spans.add(1, (3, 2), "shop", "select", (102, 1));
    let check = |query: &str, matched: &[usize]| {
        let expr = parse(query).expect("valid");
        let options = SearchOptions {
            range: TimeRange::new(Nanos::from_secs(0), Nanos::from_secs(1000)),
            limit: 10,
            spans_per_spanset: 10,
            after: None,
        };
        let found = search(&spans, &expr, query, &options, &Budget::unlimited()).expect(query);
        let counts: Vec<usize> = found.iter().flat_map(|found| &found.spansets).map(|set| set.matched).collect();
        assert_eq!(counts, matched, "{query}");
    };
    check("{}", &[5]);
    check(r#"{ resource.service.name = "shop" }"#, &[2]);
    check("{ kind = client } > { kind = server }", &[1]);
    check(r#"{ kind = server && resource.service.name = "shop" } > { name = "select" }"#, &[1]);
    check(r#"{ kind = server } > { name = "retry" }"#, &[]);
    check(r#"{ name = "GET /" } >> { name = "select" }"#, &[1]);
}

/// 200 traces of four spans over six hours, each over some ten minutes; every tenth span comes twice.
fn busy() -> MemorySpans {
    let mut spans = MemorySpans::default();
    let mut state = 7u64;
    let mut random = |below: i64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64 % below
    };
    for trace in 1..=200u8 {
        let start = random(6 * 3600 - 700);
        for id in 1..=4u8 {
            let name = ["load", "save", "charge"][random(3) as usize];
            let times = (start + random(600), random(20));
            let service = ["web", "pay"][random(2) as usize];
            for _ in 0..=usize::from(random(10) == 0) {
                spans.add(trace, (id, id - 1), service, name, times);
            }
        }
    }
    spans
}

#[test]
fn filters_on_single_spans_find_what_whole_traces_would() {
    for tells_times in [true, false] {
        let source = Counted::new(busy(), tells_times);
        for query in
            ["{ }", "{ name = `save` }", "{ duration > 15s && .service.name = `pay` }", "{ name = `load` } | { duration > 18s }"]
        {
            for limit in [0, 1, 7, 20, 500] {
                // Behind another stage, the traces of all candidates are looked at.
                let expect = source.find(&format!("{query} | coalesce()"), limit);
                source.taken();
                assert_eq!(source.find(query, limit), expect, "{query}, {limit} traces");
                let (_, traces) = source.taken();
                assert_eq!(traces, expect.len(), "{query}: only traces that are shown are read");
            }
        }
    }
}

#[test]
fn a_search_stops_when_what_is_left_is_older() {
    let source = Counted::new(busy(), true);
    let all = source.spans.0.len();
    assert_eq!(source.find("{ } | coalesce()", 5).len(), 5);
    let (rows_by_windows, _) = source.taken();
    assert_eq!(source.find("{ } | select(.amount)", 5).len(), 5);
    let (rows, traces) = source.taken();
    assert!(rows_by_windows < 40 && rows < 40 && traces == 5, "{rows} and {rows_by_windows} spans, {traces} traces");
    assert_eq!(source.find("{ name = `nothing` }", 5).len(), 0);
    assert_eq!(source.taken(), (all, 0));
}

#[test]
fn a_question_reads_traces_in_few_passes_whatever_it_asks() {
    for tells_times in [true, false] {
        let source = Counted::new(busy(), tells_times);
        for query in ["{ } | count() > 5", "{ name = `load` } > { name = `save` }", "{ name = `load` } !>> { name = `save` }"] {
            let found = source.find(query, 500);
            let (_, traces) = source.taken();
            let passes = source.passes.swap(0, Ordering::Relaxed);
            assert!(passes <= 2 && traces <= 200, "{query}: {} found, {traces} traces in {passes} passes", found.len());
            assert_eq!(source.find(query, 500), found, "{query}");
            source.taken();
            source.passes.store(0, Ordering::Relaxed);
        }
    }
}

/// Of 200 traces one has both sides; the commoner side is on the right and the rarer one on the left, or the other way.
#[test]
fn an_operator_looks_for_both_of_its_sides_before_it_reads_traces() {
    let mut spans = busy();
    let start = 3 * 3600;
    spans.add(250, (1, 0), "web", "rare", (start, 5));
    spans.add(250, (2, 1), "web", "save", (start + 1, 1));
    let source = Counted::new(spans, true);
    for query in ["{ name = `rare` } > { name = `save` }", "{ name = `save` } < { name = `rare` }", "{ name = `rare` } && { }"] {
        let found = source.find(query, 20);
        assert_eq!(found.iter().map(|found| found.trace_id.0[0]).collect::<Vec<_>>(), [250], "{query}");
        assert_eq!(source.taken().1, 1, "{query}: only the trace that has both sides is read");
    }
    assert_eq!(source.find("{ name = `rare` } >> { name = `nothing` }", 20), []);
    assert_eq!(source.taken().1, 0);
}

/// Every trace once, whatever the pages' size, and the same as all at once.
#[test]
fn pages_go_through_all_traces_once() {
    for tells_times in [true, false] {
        let source = Counted::new(busy(), tells_times);
        for query in [
            "{ }",
            "{ name = `save` }",
            "{ name = `load` } > { }",
            "{ name = `load` } && { duration > 12s }",
            "{ } | count() > 3",
        ] {
            let rank = |found: &TraceMatch| (std::cmp::Reverse(found.newest), found.trace_id);
            let mut all = source.find(query, 500);
            all.sort_by_key(rank);
            for limit in [7, 64] {
                let (mut paged, mut after) = (Vec::new(), None);
                loop {
                    let options = SearchOptions { range: TimeRange::ALL, limit, spans_per_spanset: 10, after };
                    let mut page = search(&source, &expr(query), query, &options, &Budget::unlimited()).expect("page");
                    after = Rank::of_last(&page, limit);
                    page.sort_by_key(rank);
                    paged.extend(page);
                    let Some(rank) = after else { break };
                    assert_eq!(Rank::parse(&rank.to_string()), after, "as text and back");
                }
                assert_eq!(paged, all, "{query} by {limit}");
            }
        }
    }
}

#[test]
fn what_a_search_held_is_given_back() {
    let source = busy();
    for query in ["{ }", "{ name = `load` } > { name = `save` }", "{ } | count() > 5"] {
        let budget = Budget::new(1 << 20);
        let options = SearchOptions { range: TimeRange::ALL, limit: 3, spans_per_spanset: 0, after: None };
        search(&source, &expr(query), query, &options, &budget).expect("fits");
        budget.charge((1 << 20) - (8 << 10)).expect("all but the answer");
    }
}

#[test]
fn a_span_that_matches_alone_and_not_in_its_trace_leaves_no_gap() {
    let mut spans = MemorySpans::default();
    spans.add(1, (1, 0), "web", "load", (100, 1));
    spans.add(1, (1, 0), "web", "save", (200, 1));
    spans.add(2, (1, 0), "web", "save", (50, 1));
    spans.add(3, (1, 0), "web", "save", (40, 1));
    let found = Counted::new(spans, true).find("{ name = `save` }", 1);
    assert_eq!(
        found.iter().map(|found| found.trace_id.0[0]).collect::<Vec<_>>(),
        [2],
        "of the two that share an id the first counts"
    );
}

#[test]
fn hints() {
    let text = r#"{ resource.service.name = "pay" && span.db.system = "postgresql" && duration > 1s && status = error && (.x = "1" || .y = "2") && span.retries > 3 && .weight = 1.5 }"#;
    let Root::Search(pipeline) = expr(text).root else { panic!("a search") };
    let expect = [
        SpanHint::Service("pay".to_owned()),
        SpanHint::AttributeEquals { key: "db.system".to_owned(), value: "postgresql".to_owned().into() },
        SpanHint::DurationNanosAtLeast(1_000_000_000),
        SpanHint::IsError,
        SpanHint::NumberBetween { key: "retries".to_owned(), low: 3.0, high: f64::INFINITY },
        SpanHint::NumberBetween { key: "weight".to_owned(), low: 1.5, high: 1.5 },
    ];
    assert_eq!(span_hints(&pipeline), expect);
}

fn measure(text: &str) -> Vec<(String, Vec<Option<f64>>)> {
    let range = TimeRange::new(Nanos::from_secs(100), Nanos::from_secs(120));
    let options = MetricOptions { range, step: Duration::from_secs(10), exemplars: 0 };
    let series = query_range(&shop(), &expr(text), text, &options, &Budget::unlimited());
    let series = series.unwrap_or_else(|error| panic!("{text}: {error}"));
    let shown = |labels: &[(String, AttributeValue)]| {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    };
    series.iter().map(|series| (shown(&series.labels), series.points.iter().map(|(_, value)| *value).collect())).collect()
}

#[test]
fn metrics() {
    assert_eq!(measure("{ } | rate()"), [("__name__=rate".to_owned(), vec![Some(0.4), Some(0.0)])]);
    assert_eq!(
        measure("{ } | count_over_time() by (resource.service.name)"),
        [
            ("resource.service.name=pay".to_owned(), vec![Some(2.0), Some(0.0)]),
            ("resource.service.name=web".to_owned(), vec![Some(2.0), Some(0.0)])
        ]
    );
    assert_eq!(measure("{ } | max_over_time(duration)"), [("__name__=max_over_time".to_owned(), vec![Some(10.0), None])]);
    assert_eq!(measure("{ } | quantile_over_time(duration, .5)"), [("p=0.5".to_owned(), vec![Some(5.0), None])]);
    assert_eq!(measure("({ status = error } | count_over_time()) / ({ } | count_over_time()) * 100")[0].1[0], Some(25.0));
    assert_eq!(
        measure("{ } | count_over_time() by (name) | topk(1)").len(),
        1,
        "of equals the first by name is picked at each step"
    );
    assert!(measure("{ } | count_over_time() > 10").is_empty());
}

#[test]
fn exemplars_are_spans_of_their_series_and_no_more_than_asked_for() {
    let source = busy();
    let range = TimeRange::new(Nanos(0), Nanos::from_secs(6 * 3600));
    let ask = |text: &str, exemplars: usize| {
        let options = MetricOptions { range, step: Duration::from_mins(10), exemplars };
        query_range(&source, &expr(text), text, &options, &Budget::unlimited()).expect(text)
    };
    let by_name = ask("{ } | max_over_time(duration) by (name)", 5);
    assert_eq!(by_name.len(), 3);
    for series in &by_name {
        assert!(series.exemplars.len() == 5 && series.exemplars.is_sorted_by_key(|exemplar| exemplar.time), "{series:?}");
        for exemplar in &series.exemplars {
            let is_it = |stored: &&StoredSpan| (stored.span.trace_id, stored.span.start) == (exemplar.trace_id, exemplar.time);
            let name = series.labels[0].1.to_string();
            let is_of_series = |stored: &StoredSpan| {
                let seconds = stored.span.duration_nanos() as f64 / 1e9;
                stored.span.name == name && (seconds - exemplar.value).abs() < 1e-9
            };
            assert!(source.0.iter().filter(is_it).any(is_of_series), "{exemplar:?} of {name}");
        }
    }
    assert_eq!(ask("{ } | max_over_time(duration) by (name)", 5), by_name);
    let count = |text: &str, exemplars| ask(text, exemplars)[0].exemplars.len();
    assert_eq!(count("{ } | rate()", 0), 0);
    assert_eq!(count("{ } | rate() with (exemplars=false)", 5), 0);
    assert_eq!(count("{ } | rate() with (exemplars=2)", 5), 2);
    assert!(count("{ } | rate() with (exemplars=true)", 0) > 30, "one for each step with spans");
    let rate = ask("{ } | rate()", 3).remove(0);
    let point = |time: Nanos| rate.points.iter().rev().find(|(start, _)| *start <= time).and_then(|(_, value)| *value);
    assert!(
        rate.exemplars.iter().all(|exemplar| Some(exemplar.value) == point(exemplar.time)),
        "counts show the value of the step"
    );
}

/// What is counted trace by trace is what is counted span by span.
#[test]
fn metrics_over_whole_traces_count_the_spans_that_come_out() {
    let mut source = busy();
    source.0.dedup_by(|one, other| one.span == other.span);
    let range = TimeRange::new(Nanos(0), Nanos::from_secs(6 * 3600));
    let counts = |text: &str| {
        let options = MetricOptions { range, step: Duration::from_hours(6), exemplars: 0 };
        let series = query_range(&source, &expr(text), text, &options, &Budget::unlimited()).expect(text);
        series.into_iter().map(|series| (format!("{:?}", series.labels), series.points[0].1)).collect::<Vec<_>>()
    };
    for by in ["", " by (name)", " by (resource.service.name, name)"] {
        let plain = counts(&format!("{{ name != `save` }} | count_over_time(){by}"));
        assert_eq!(counts(&format!("{{ name != `save` }} | coalesce() | count_over_time(){by}")), plain);
    }
    let options = SearchOptions { range: TimeRange::ALL, limit: 500, spans_per_spanset: 0, after: None };
    for query in ["{ name = `load` } > { name = `save` }", "{ } | count() > 3", "{ rootName = `load` && duration > 10s }"] {
        let found = search(&source, &expr(query), query, &options, &Budget::unlimited()).expect(query);
        let spans: usize = found.iter().flat_map(|found| &found.spansets).map(|set| set.matched).sum();
        assert_eq!(counts(&format!("{query} | count_over_time()"))[0].1, Some(spans as f64), "{query}");
    }
}

/// Each of them is compiled while the query is read.
#[test]
fn a_query_has_so_many_regular_expressions() {
    let query = |count: usize| {
        let all: Vec<String> = (0..count).map(|at| format!("name =~ \"x{at}.\"")).collect();
        format!("{{ {} }}", all.join(" || "))
    };
    assert!(parse(&query(40)).is_ok() && parse("{ name =~ \"[a&&b]\" }").is_ok());
    let error = parse(&query(101)).map(drop).expect_err("too many");
    assert!(error.to_string().contains("more than 100 regular expressions"), "{error}");
    assert!(parse("{ name =~ \"a)|(b\" }").is_err());
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in r#"[\{\}\(\)a-z0-9 .:"`=<>!~&|+*/^,-]{0,60}"#) {
        let _ = parse(&text);
    }

    #[test]
    fn nested_text_is_refused_not_fatal(depth in 0usize..5000) {
        let text = format!("{}{}", "(".repeat(depth), "{".repeat(depth));
        proptest::prop_assert!(parse(&text).is_err());
    }
}
