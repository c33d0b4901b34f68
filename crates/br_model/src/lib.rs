//! What Bellrock keeps: labels, samples, histograms, logs, spans, errors.
//!
//! Plain values without I/O, in the words of `docs/glossary.md`. Wire formats and on-disk formats are other crates' business.

pub mod attributes;
pub mod error_event;
pub mod grouping;
pub mod histogram;
pub mod ids;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod names;
pub mod span;
pub mod tenant;
pub mod texts;

pub use attributes::{AttributeValue, Attributes, Resource, Scope};
pub use error_event::{ErrorEvent, Exception, Frame};
pub use grouping::Grouping;
pub use histogram::{BucketSpan, CounterResetHint, FloatHistogram};
pub use ids::{SpanId, TraceId};
pub use labels::{Label, Labels, LabelsBuilder};
pub use log::{LogBatch, LogKind, LogRecord, ResourceLogs, Severity};
pub use metrics::{
    Exemplar, KnownSample, KnownSeries, Metadata, MetricBatch, MetricType, STALE_NAN_BITS, Sample, SeriesHandle, SeriesSamples,
    Value, is_stale, stale_nan,
};
pub use span::{ResourceSpans, Span, SpanBatch, SpanEvent, SpanKind, SpanLink, SpanStatus};
pub use tenant::{Principal, Right, Role, TenantId};
pub use texts::Texts;
