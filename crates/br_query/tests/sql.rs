//! SQL from outside: what is allowed, what an error says, metrics as rows, answers as text.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use br_model::{Exemplar, Labels, Metadata, TenantId};
use br_query::sql::{SqlEngine, SqlLimits, write_csv, write_json_lines};
use br_std::{Error, Kind, Result};
use br_storage::{Budget, Matcher, MetricSource, Points, SeriesCursor, SeriesData, SeriesQuery, Values};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use futures::TryStreamExt;
use std::sync::Arc;

/// Two series of three samples each, a minute apart.
struct TwoSeries;

struct Once(Option<Vec<SeriesData>>);

impl SeriesCursor for Once {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        Ok(self.0.take())
    }
}

impl MetricSource for TwoSeries {
    fn select<'a>(&'a self, query: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let all = ["a", "b"].into_iter().map(|job| {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
            let points = Points {
                timestamps_ms: vec![0, 60_000, 120_000].into(),
                values: Values::Floats(vec![1.0, 0.0, br_model::stale_nan()]),
                starts_ms: None,
            };
            SeriesData { labels, points }
        });
        let kept = all.filter(|series| query.matchers.iter().all(|matcher: &Matcher| matcher.matches_labels(&series.labels)));
        Ok(Box::new(Once(Some(kept.collect()))))
    }

    fn series(&self, _: &[SeriesQuery], _: &Budget) -> Result<Vec<Labels>> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &SeriesQuery, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &SeriesQuery, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: Option<&str>) -> Result<Vec<(String, Metadata)>> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: &SeriesQuery, _: &Budget) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        Ok(Vec::new())
    }
}

fn numbers() -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))]).expect("one column")
}

async fn ask(sql: &str, limits: SqlLimits) -> Result<Vec<RecordBatch>> {
    let tables = |_: TenantId, _: &Arc<Budget>| {
        let table = MemTable::try_new(numbers().schema(), vec![vec![numbers()]]).expect("fits");
        vec![("numbers".to_owned(), Arc::new(table) as Arc<dyn TableProvider>)]
    };
    let engine = SqlEngine::new(Arc::new(tables), Arc::new(|_| Arc::new(TwoSeries)), Vec::new(), limits);
    engine.query(TenantId(1), sql, Arc::new(Budget::unlimited())).await?.batches.try_collect().await
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
