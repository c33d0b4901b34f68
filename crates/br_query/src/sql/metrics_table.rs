//! `metrics`: one row for each sample, over a metric source.

use super::histogram::histogram_json;
use arrow::array::{
    ArrayRef, Float64Builder, MapBuilder, MapFieldNames, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use br_model::Value;
use br_model::labels::METRIC_NAME;
use br_std::{Error, Result};
use br_storage::{Budget, Matcher, MetricSource, SeriesData, SeriesQuery};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as SqlResult, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use std::fmt;
use std::sync::Arc;

const SERVICE_NAME: &str = "service_name";
/// Native histograms as JSON; `value` is null then.
const HISTOGRAM: &str = "histogram";
/// A batch ends when the text of its histograms has so many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// Rows of one batch, about.
const BATCH_ROWS: usize = 8192;
const BATCHES_WAITING_MAX: usize = 2;

pub(super) struct MetricsTable {
    source: Arc<dyn MetricSource>,
    schema: SchemaRef,
    budget: Arc<Budget>,
}

impl fmt::Debug for MetricsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsTable").finish_non_exhaustive()
    }
}

impl MetricsTable {
    pub(super) fn new(source: Arc<dyn MetricSource>, budget: Arc<Budget>) -> Self {
        let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
        let labels = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false);
        let schema = Schema::new(vec![
            Field::new("metric", DataType::Utf8, false),
            Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
            Field::new("value", DataType::Float64, true),
            Field::new(HISTOGRAM, DataType::Utf8, true),
            Field::new(SERVICE_NAME, DataType::Utf8, true),
            Field::new("labels", labels, false),
        ]);
        Self { source, schema: Arc::new(schema), budget }
    }
}

#[async_trait]
impl TableProvider for MetricsTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters only choose series and times here; DataFusion applies them again.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> SqlResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let mut query = SeriesQuery { matchers: Vec::new(), from_ms: i64::MIN, to_ms: i64::MAX };
        for filter in filters {
            narrow(filter, &mut query);
        }
        if query.matchers.is_empty() {
            query.matchers.push(Matcher::new(br_storage::MatchOp::NotEqual, METRIC_NAME, "").map_err(sql_error)?);
        }
        let shows_histograms =
            projection.is_none_or(|columns| columns.iter().any(|at| self.schema.field(*at).name() == HISTOGRAM));
        let (source, schema, budget) = (self.source.clone(), self.schema.clone(), self.budget.clone());
        let partition: Arc<dyn PartitionStream> = Arc::new(Samples { source, schema, query, shows_histograms, budget });
        Ok(Arc::new(StreamingTableExec::try_new(self.schema.clone(), vec![partition], projection, [], false, limit)?))
    }
}

fn sql_error(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Takes from a filter what chooses series or times; the rest is left to DataFusion.
fn narrow(filter: &Expr, query: &mut SeriesQuery) {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return };
    if *op == Operator::And {
        narrow(left, query);
        return narrow(right, query);
    }
    let (subject, op, value) = match (&**left, &**right) {
        (subject, Expr::Literal(value, _)) => (subject, *op, value),
        (Expr::Literal(value, _), subject) => match op.swap() {
            Some(op) => (subject, op, value),
            None => return,
        },
        _ => return,
    };
    match subject {
        Expr::Column(column) if column.name == "ts" => narrow_time(op, value, query),
        Expr::Column(column) if op == Operator::Eq => match (column.name.as_str(), text(value)) {
            ("metric", Some(name)) => query.matchers.push(Matcher::equal(METRIC_NAME, name)),
            (SERVICE_NAME, Some(service)) => query.matchers.push(Matcher::equal(SERVICE_NAME, service)),
            _ => {}
        },
        Expr::ScalarFunction(call) if op == Operator::Eq && ["get_field", "attr"].contains(&call.func.name()) => {
            if let ([Expr::Column(column), Expr::Literal(key, _)], Some(value)) = (call.args.as_slice(), text(value))
                && column.name == "labels"
                && let Some(key) = text(key)
            {
                query.matchers.push(Matcher::equal(key, value));
            }
        }
        _ => {}
    }
}

fn text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.clone(),
        _ => None,
    }
}

/// Widens to whole milliseconds.
fn narrow_time(op: Operator, value: &ScalarValue, query: &mut SeriesQuery) {
    let ScalarValue::TimestampNanosecond(Some(nanos), _) = value else { return };
    let millis = nanos.div_euclid(1_000_000);
    if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
        query.from_ms = query.from_ms.max(millis);
    }
    if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
        query.to_ms = query.to_ms.min(millis);
    }
}

struct Samples {
    source: Arc<dyn MetricSource>,
    schema: SchemaRef,
    query: SeriesQuery,
    /// Somebody looks at what is in them.
    shows_histograms: bool,
    budget: Arc<Budget>,
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples").field("query", &self.query).finish_non_exhaustive()
    }
}

impl PartitionStream for Samples {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_WAITING_MAX);
        let sender = builder.tx();
        let (source, query, budget) = (self.source.clone(), self.query.clone(), self.budget.clone());
        let (schema, shows_histograms) = (self.schema.clone(), self.shows_histograms);
        builder.spawn_blocking(move || {
            let mut give = |batch: RecordBatch| sender.blocking_send(Ok(batch)).is_ok();
            read(&*source, &query, &budget, Rows::new(&schema, shows_histograms), &mut give).map_err(sql_error)
        });
        builder.build()
    }
}

/// Gives the samples of all series until no more are wanted.
fn read(
    source: &dyn MetricSource,
    query: &SeriesQuery,
    budget: &Budget,
    mut rows: Rows,
    give: &mut dyn FnMut(RecordBatch) -> bool,
) -> Result<()> {
    let mut cursor = source.select(query, budget)?;
    while let Some(batch) = cursor.next_batch()? {
        for series in &batch {
            budget.check()?;
            for at in 0..series.points.len() {
                rows.push(series, at)?;
                if rows.is_full() && !give(rows.finish()?) {
                    return Ok(());
                }
            }
        }
    }
    if rows.count > 0 {
        give(rows.finish()?);
    }
    Ok(())
}

struct Rows {
    schema: SchemaRef,
    shows_histograms: bool,
    count: usize,
    /// Of histograms.
    text_bytes: usize,
    metrics: StringBuilder,
    times: TimestampNanosecondBuilder,
    values: Float64Builder,
    histograms: StringBuilder,
    services: StringBuilder,
    labels: MapBuilder<StringBuilder, StringBuilder>,
}

impl Rows {
    fn new(schema: &SchemaRef, shows_histograms: bool) -> Self {
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        Self {
            schema: schema.clone(),
            shows_histograms,
            count: 0,
            text_bytes: 0,
            metrics: StringBuilder::new(),
            times: TimestampNanosecondBuilder::new().with_timezone("UTC"),
            values: Float64Builder::new(),
            histograms: StringBuilder::new(),
            services: StringBuilder::new(),
            labels: MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new()),
        }
    }

    fn is_full(&self) -> bool {
        self.count >= BATCH_ROWS || self.text_bytes >= BATCH_BYTES
    }

    /// Adds a sample; staleness markers are not rows.
    fn push(&mut self, series: &SeriesData, at: usize) -> Result<()> {
        match series.points.value(at) {
            Value::Float(value) if br_model::is_stale(value) => return Ok(()),
            Value::Histogram(histogram) if br_model::is_stale(histogram.sum) => return Ok(()),
            Value::Float(value) => {
                self.values.append_value(value);
                self.histograms.append_null();
            }
            Value::Histogram(histogram) => {
                self.values.append_null();
                let text = self.shows_histograms.then(|| histogram_json(&histogram));
                self.text_bytes += text.as_ref().map_or(0, String::len);
                self.histograms.append_option(text);
            }
        }
        self.count += 1;
        self.metrics.append_value(series.labels.metric_name());
        self.times.append_value(series.points.timestamps_ms[at].saturating_mul(1_000_000));
        self.services.append_option(series.labels.get(SERVICE_NAME));
        for (name, value) in series.labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            self.labels.keys().append_value(name);
            self.labels.values().append_value(value);
        }
        self.labels.append(true).map_err(|error| Error::corrupt(error.to_string()))
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.text_bytes = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.metrics.finish()),
            Arc::new(self.times.finish()),
            Arc::new(self.values.finish()),
            Arc::new(self.histograms.finish()),
            Arc::new(self.services.finish()),
            Arc::new(self.labels.finish()),
        ];
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.count)));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| Error::corrupt(error.to_string()))
    }
}
