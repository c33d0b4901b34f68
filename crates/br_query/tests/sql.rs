//! SQL from outside: what is allowed, what an error says, metrics as rows, answers as text.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use br_model::{BucketSpan, FloatHistogram, Labels, TenantId};
use br_query::sql::{STACK_BYTES, SqlEngine, SqlLimits, write_csv, write_json_lines};
use br_std::{Error, Kind, Result};
use br_storage::testing::{AtOnce, SelectOnly};
use br_storage::{Budget, CancelReason, Matcher, Points, SeriesCursor, SeriesData, SeriesQuery, Values};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use futures::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;

/// Two series of three samples each, a minute apart.
struct TwoSeries;

impl SelectOnly for TwoSeries {
    fn select_only<'a>(&'a self, query: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let all = ["a", "b"].into_iter().map(|job| {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
            let points = Points {
                timestamps_ms: vec![0, 60_000, 120_000].into(),
                values: Values::Floats(vec![1.0, 0.0, br_model::stale_nan()]),
                starts_ms: None,
                weights: None,
            };
            SeriesData { labels, points }
        });
        let kept = all.filter(|series| query.matchers.iter().all(|matcher: &Matcher| matcher.matches_labels(&series.labels)));
        Ok(AtOnce::new(kept))
    }
}

fn numbers() -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))]).expect("one column")
}

async fn ask(sql: &str, limits: SqlLimits) -> Result<Vec<RecordBatch>> {
    ask_within(sql, limits, Arc::new(Budget::unlimited())).await
}

async fn ask_within(sql: &str, limits: SqlLimits, budget: Arc<Budget>) -> Result<Vec<RecordBatch>> {
    let tables = |_: TenantId, _: &Arc<Budget>| {
        let table = MemTable::try_new(numbers().schema(), vec![vec![numbers()]]).expect("fits");
        vec![("numbers".to_owned(), Arc::new(table) as Arc<dyn TableProvider>)]
    };
    let engine = SqlEngine::new(Arc::new(tables), Arc::new(|_| Arc::new(TwoSeries)), Vec::new(), limits);
    engine.query(TenantId(1), sql, budget).await?.batches.try_collect().await
}

async fn refused(sql: &str) -> Error {
    ask(sql, SqlLimits::default()).await.err().unwrap_or_else(|| panic!("{sql} was allowed"))
}

#[tokio::test]
async fn metrics_are_rows() {
    let check = async |sql: &str, expect: i64| {
        let batches = ask(sql, SqlLimits::default()).await.expect("valid");
        let total: i64 = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().flatten()).sum();
        assert_eq!(total, expect, "{sql}");
    };
    check("SELECT count(*) FROM metrics", 4).await;
    check("SELECT count(*) FROM metrics WHERE metric = 'up' AND labels['job'] = 'a'", 2).await;
    check("SELECT count(*) FROM metrics WHERE metric = 'down'", 0).await;
    check("SELECT count(*) FROM metrics WHERE ts >= '1970-01-01T00:01:00Z' AND value = 0", 2).await;
    check("WITH big AS (SELECT n FROM numbers WHERE n > 1) SELECT sum(n) FROM big", 3).await;
}

/// One histogram, and its end.
struct Histograms;

impl SelectOnly for Histograms {
    fn select_only<'a>(&'a self, _: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let span = BucketSpan { offset: -1, length: 2 };
        let histogram = FloatHistogram {
            count: 3.0,
            sum: 4.5,
            positive_spans: vec![span],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let end = FloatHistogram { sum: br_model::stale_nan(), ..FloatHistogram::default() };
        let points = Points {
            timestamps_ms: vec![0, 60_000].into(),
            values: Values::Histograms(vec![Arc::new(histogram), Arc::new(end)]),
            starts_ms: None,
            weights: None,
        };
        let labels = Labels::from_pairs([("__name__", "latency")]);
        Ok(AtOnce::new([SeriesData { labels, points }]))
    }
}

#[tokio::test]
async fn native_histograms_are_rows() {
    let tables = |_: TenantId, _: &Arc<Budget>| Vec::new();
    let engine = SqlEngine::new(Arc::new(tables), Arc::new(|_| Arc::new(Histograms)), Vec::new(), SqlLimits::default());
    let rows = async |sql: &str| {
        let answer = engine.query(TenantId(1), sql, Arc::new(Budget::unlimited())).await.expect("valid");
        let batches: Vec<RecordBatch> = answer.batches.try_collect().await.expect("valid");
        let mut text = Vec::new();
        for batch in &batches {
            write_json_lines(&mut text, batch).expect("JSON");
        }
        String::from_utf8(text).expect("text")
    };
    let shown = rows("SELECT metric, value, histogram FROM metrics").await;
    assert!(shown.contains(r#"\"positive\":[[-1,1.0],[0,2.0]]"#) && shown.lines().count() == 1, "{shown}");
    assert!(rows("SELECT count(*) AS n FROM metrics WHERE value IS NULL AND metric = 'latency'").await.contains(":1}"));
}

#[tokio::test]
async fn an_unknown_column_is_told_with_each_column_once() {
    for sql in
        ["SELECT nope FROM metrics", "SELECT metric FROM metrics GROUP BY nope", "SELECT metric FROM metrics ORDER BY nope"]
    {
        let error = refused(sql).await;
        assert!(error.message().contains("No field named nope"), "{error}");
        assert_eq!(error.message().matches("metrics.metric").count(), 1, "{error}");
    }
}

#[tokio::test]
async fn only_reading_is_allowed() {
    for sql in [
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO numbers VALUES (1)",
        "DELETE FROM numbers",
        "DROP TABLE numbers",
        "COPY numbers TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "EXPLAIN ANALYZE INSERT INTO numbers VALUES (1)",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1; SELECT 2",
    ] {
        assert_eq!(refused(sql).await.kind(), Kind::FixRequest, "{sql}");
    }
    for sql in ["EXPLAIN SELECT 1", "SHOW TABLES", "DESCRIBE numbers", "SHOW COLUMNS FROM metrics"] {
        ask(sql, SqlLimits::default()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
async fn functions_that_make_much_of_little_are_limited() {
    let a = "a".repeat(20_000);
    for sql in [
        "SELECT repeat('x', 1500000000)".to_owned(),
        "SELECT repeat('x', 100000000 * n) FROM numbers".to_owned(),
        "SELECT lpad('x', 1500000000), rpad('x', n * 100000000) FROM numbers".to_owned(),
        "SELECT array_repeat('x', 100000000)".to_owned(),
        "SELECT array_repeat(array_repeat('x', 10000), 10000)".to_owned(),
        format!("SELECT replace('{a}', 'a', '{a}')"),
        format!("SELECT regexp_replace('{a}', 'a', '{a}', 'g')"),
    ] {
        assert_eq!(refused(&sql).await.kind(), Kind::OverLimit, "{}", sql.get(..40).unwrap_or(&sql));
    }
    assert_eq!(refused("SELECT range(0, 10000000000)").await.kind(), Kind::FixRequest, "it is a table only");
    assert_eq!(refused(&format!("SELECT '{}'", "x".repeat(100_000))).await.kind(), Kind::OverLimit);
    for sql in [
        "SELECT repeat('x', n), lpad('x', 5, 'y'), replace('aXa', 'X', 'b') FROM numbers",
        "SELECT regexp_replace('a1b', '[0-9]', 'x'), rpad('x', 3), array_repeat(n, 2) FROM numbers",
        "SELECT count(*) FROM generate_series(1, 1000)",
    ] {
        ask(sql, SqlLimits::default()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
async fn errors_say_what_and_where() {
    assert!(refused("SELEC 1").await.message().contains("SELEC"));
    let error = refused("SELECT nope FROM numbers").await;
    assert!(error.message().contains("nope"), "{error}");
    let error = refused("SELECT n FROM\n WHERE").await;
    assert!(error.message().contains("ine"), "{error}");
    let few = SqlLimits { rows_max: 2, ..SqlLimits::default() };
    assert_eq!(ask("SELECT * FROM numbers", few).await.map_err(|error| error.kind()).err(), Some(Kind::OverLimit));
}

#[test]
fn answers_as_text() {
    let (mut json, mut csv) = (Vec::new(), Vec::new());
    write_json_lines(&mut json, &numbers()).expect("to memory");
    write_csv(&mut csv, &numbers(), true).expect("to memory");
    assert_eq!(String::from_utf8_lossy(&json), "{\"n\":1}\n{}\n{\"n\":3}\n");
    assert_eq!(String::from_utf8_lossy(&csv), "n\r\n1\r\n\r\n3\r\n");
}

/// As the server does it: on a thread with a stack for the deepest statement.
fn on_a_worker<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).thread_stack_size(STACK_BYTES).enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(runtime.spawn(work)).expect("no panic");
    runtime.shutdown_background();
    outcome
}

fn chain(terms: usize, term: &str, joint: &str) -> String {
    vec![term; terms].join(joint)
}

#[test]
fn statements_of_any_shape_leave_the_stack_alone() {
    let check = |sql: String, expect: Option<Kind>| {
        let start = sql.get(..60).unwrap_or(&sql).to_owned();
        let found = on_a_worker(async move { ask(&sql, SqlLimits::default()).await.map_err(|error| error.kind()).err() });
        assert_eq!(found, expect, "{start}");
    };
    for joint in [" OR n = 1 AND ", " + ", " || ' ' || ", " = ", " UNION SELECT ", "-", "::int + ", " IS NULL AND NOT "] {
        check(format!("SELECT n FROM numbers WHERE n = {}", chain(3000, "n", joint)), Some(Kind::FixRequest));
    }
    check(format!("{}SELECT 1", "EXPLAIN ".repeat(7000)), Some(Kind::FixRequest));
    check(format!("SELECT CAST(1 AS {}", "ARRAY<".repeat(7000)), Some(Kind::FixRequest));
    check(format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)), Some(Kind::FixRequest));
    check(format!("SELECT count(*) FROM numbers WHERE n = 1 {}", " OR n = 2".repeat(500)), None);
    check(format!("SELECT count(*) FROM metrics WHERE metric = 'a' {}", " OR metric || value = 'b'".repeat(500)), None);
    check(format!("SELECT n{} FROM numbers", " + n".repeat(990)), None);
    check(format!("SELECT n FROM numbers WHERE n IN ({})", chain(9000, "12345", ",")), None);
}

#[test]
fn plans_that_double_are_refused_before_they_are_made() {
    let doubling = |times: usize| {
        let ctes: Vec<String> = (1..=times).map(|at| format!("t{at} AS (SELECT x.a FROM t{0} x, t{0} y)", at - 1)).collect();
        format!("WITH t0 AS (SELECT 1 a), {} SELECT count(*) FROM t{times}", ctes.join(", "))
    };
    let many = format!("SELECT count(*) FROM {}", (0..3000).map(|at| format!("numbers n{at}")).collect::<Vec<_>>().join(", "));
    for sql in [doubling(24), many] {
        let error = on_a_worker(async move { refused(&sql).await });
        assert_eq!(error.kind(), Kind::FixRequest);
        assert!(error.message().contains("more than"), "{error}");
    }
    let few = doubling(3);
    on_a_worker(async move { ask(&few, SqlLimits::default()).await }).expect("a few are allowed");
}

#[test]
fn pairs_of_rows_are_made_with_care() {
    let error = on_a_worker(async { refused("SELECT * FROM metrics a CROSS JOIN metrics b").await });
    assert!(error.message().contains("select the columns you need"), "{error}");
    let rows =
        on_a_worker(async { ask("SELECT a.metric, b.value FROM metrics a CROSS JOIN metrics b", SqlLimits::default()).await });
    assert_eq!(rows.expect("plain columns").iter().map(RecordBatch::num_rows).sum::<usize>(), 16);
}

/// A join that makes no row and never waits has nothing to be stopped at but its budget.
#[test]
#[allow(clippy::disallowed_methods, reason = "the join must be under way, on a thread of its own, when it is told to stop")]
fn a_join_stops_when_it_is_told_to() {
    for sql in [
        "SELECT count(*) FROM generate_series(1, 100000) a(x), generate_series(1, 100000) b(y) WHERE (x * y) % 7 = 8",
        "SELECT sum(x * y) FROM generate_series(1, 100000) a(x), generate_series(1, 100000) b(y)",
        "SELECT count(*) FROM generate_series(1, 100000) a(x) LEFT JOIN generate_series(1, 100000) b(y) ON x * y < 0",
        "SELECT count(*) FROM generate_series(1, 1000000) a(x) JOIN generate_series(1, 1000000) b(y) ON x % 2 = y % 2 AND x * y < 0",
    ] {
        let budget = Arc::new(Budget::unlimited());
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_stack_size(STACK_BYTES).enable_all().build().expect("a runtime");
        let query = runtime.spawn(ask_within(sql, SqlLimits::default(), budget.clone()));
        // As in the server, the clock is not kept by those who compute.
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let outcome = clock.block_on(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            budget.cancel(CancelReason::Deadline);
            tokio::time::timeout(Duration::from_secs(10), query).await
        });
        runtime.shutdown_background();
        let outcome = outcome.unwrap_or_else(|_| panic!("{sql} goes on")).expect("no panic");
        assert!(outcome.expect_err("stopped").message().contains("time limit"), "{sql}");
    }
}

#[tokio::test]
async fn a_wrong_regular_expression_is_the_askers_to_mend() {
    for sql in [
        "SELECT count(*) FROM metrics WHERE metric ~ '('",
        "SELECT count(*) FROM metrics WHERE regexp_like(metric, '(')",
        "SELECT regexp_replace(metric, '(', '') FROM metrics",
        "SELECT regexp_match(metric, '(') FROM metrics",
        "SELECT regexp_count(metric, '(') FROM metrics",
        "SELECT count(*) FROM metrics WHERE regexp_like(metric, '(a{1000}){1000}')",
    ] {
        let error = refused(sql).await;
        assert_eq!(error.kind(), Kind::FixRequest, "{sql}: {error}");
    }
}
