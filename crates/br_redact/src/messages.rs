//! Which fields of the messages of each protocol hold text, by their numbers.
//!
//! Sources: opentelemetry-proto, `prometheus/prompb/types.proto`, `io/prometheus/write/v2/types.proto`, Loki's `push.proto`,
//! openzipkin's `zipkin.proto`.

/// What a field is.
pub(crate) enum Field {
    /// Nobody knows: runs of text in it are looked at.
    Raw,
    /// Numbers, or an id: bytes that mean no text.
    Skip,
    Text,
    Message(&'static Message),
    /// A message that names a service, in the resource that is its first field.
    OfResource(&'static Message),
    /// `KeyValue`: a name and an `AnyValue`.
    Attribute,
    AnyValue,
    /// A name and a text.
    Label,
    /// A message whose first fields are labels, the same ones each time.
    Series(&'static Message),
    /// A table of texts, to which numbers point.
    Symbols,
}

use Field::{AnyValue, Attribute, Label, Message as In, OfResource, Raw, Series, Skip, Symbols, Text};

/// The fields by number, from 0 on. Those behind the last one are [`Field::Raw`].
pub(crate) struct Message(pub(crate) &'static [Field]);

impl Message {
    pub(crate) fn field(&self, number: u64) -> &Field {
        usize::try_from(number).ok().and_then(|number| self.0.get(number)).unwrap_or(&Raw)
    }
}

static RESOURCE: Message = Message(&[Raw, Attribute, Skip, Raw]);
static SCOPE: Message = Message(&[Raw, Text, Text, Attribute, Skip]);

pub(crate) static LOGS: Message = Message(&[Raw, OfResource(&RESOURCE_LOGS)]);
static RESOURCE_LOGS: Message = Message(&[Raw, In(&RESOURCE), In(&SCOPE_LOGS), Text]);
static SCOPE_LOGS: Message = Message(&[Raw, In(&SCOPE), In(&LOG_RECORD), Text]);
static LOG_RECORD: Message = Message(&[Raw, Skip, Skip, Text, Raw, AnyValue, Attribute, Skip, Skip, Skip, Skip, Skip, Text]);

pub(crate) static TRACES: Message = Message(&[Raw, OfResource(&RESOURCE_SPANS)]);
static RESOURCE_SPANS: Message = Message(&[Raw, In(&RESOURCE), In(&SCOPE_SPANS), Text]);
static SCOPE_SPANS: Message = Message(&[Raw, In(&SCOPE), In(&SPAN), Text]);
static SPAN: Message = Message(&[
    Raw,
    Skip,
    Skip,
    Text,
    Skip,
    Text,
    Skip,
    Skip,
    Skip,
    Attribute,
    Skip,
    In(&SPAN_EVENT),
    Skip,
    In(&SPAN_LINK),
    Skip,
    In(&SPAN_STATUS),
    Skip,
]);
static SPAN_EVENT: Message = Message(&[Raw, Skip, Text, Attribute, Skip]);
static SPAN_LINK: Message = Message(&[Raw, Skip, Skip, Text, Attribute, Skip, Skip]);
static SPAN_STATUS: Message = Message(&[Raw, Raw, Text, Skip]);

pub(crate) static METRICS: Message = Message(&[Raw, OfResource(&RESOURCE_METRICS)]);
static RESOURCE_METRICS: Message = Message(&[Raw, In(&RESOURCE), In(&SCOPE_METRICS), Text]);
static SCOPE_METRICS: Message = Message(&[Raw, In(&SCOPE), In(&METRIC), Text]);
static METRIC: Message = Message(&[
    Raw,
    Text,
    Text,
    Text,
    Raw,
    In(&NUMBERS),
    Raw,
    In(&NUMBERS),
    Raw,
    In(&HISTOGRAMS),
    In(&EXPONENTIAL),
    In(&SUMMARIES),
    Attribute,
]);
static NUMBERS: Message = Message(&[Raw, In(&NUMBER), Skip, Skip]);
static NUMBER: Message = Message(&[Raw, Raw, Skip, Skip, Skip, In(&EXEMPLAR), Skip, Attribute, Skip]);
static HISTOGRAMS: Message = Message(&[Raw, In(&HISTOGRAM), Skip]);
static HISTOGRAM: Message = Message(&[Raw, Raw, Skip, Skip, Skip, Skip, Skip, Skip, In(&EXEMPLAR), Attribute, Skip, Skip, Skip]);
static EXPONENTIAL: Message = Message(&[Raw, In(&EXPONENTIAL_POINT), Skip]);
static EXPONENTIAL_POINT: Message =
    Message(&[Raw, Attribute, Skip, Skip, Skip, Skip, Skip, Skip, Skip, Skip, Skip, In(&EXEMPLAR), Skip, Skip, Skip]);
static SUMMARIES: Message = Message(&[Raw, In(&SUMMARY)]);
static SUMMARY: Message = Message(&[Raw, Raw, Skip, Skip, Skip, Skip, Skip, Attribute, Skip]);
static EXEMPLAR: Message = Message(&[Raw, Raw, Skip, Skip, Skip, Skip, Skip, Attribute]);

pub(crate) static REMOTE_WRITE_1: Message = Message(&[Raw, Series(&SERIES_1), Raw, In(&METADATA_1)]);
static SERIES_1: Message = Message(&[Raw, Label, Skip, In(&EXEMPLAR_1), Skip]);
static EXEMPLAR_1: Message = Message(&[Raw, Label, Skip, Skip]);
static METADATA_1: Message = Message(&[Raw, Skip, Text, Raw, Text, Text]);

/// Names and values of labels are numbers that point into the table: only the values' form tells what they are.
pub(crate) static REMOTE_WRITE_2: Message = Message(&[Raw, Raw, Raw, Raw, Symbols, In(&SERIES_2)]);
static SERIES_2: Message = Message(&[Raw, Skip, Skip, Skip, In(&EXEMPLAR_2), Skip, Skip]);
static EXEMPLAR_2: Message = Message(&[Raw, Skip, Skip, Skip]);

pub(crate) static LOKI: Message = Message(&[Raw, OfResource(&STREAM)]);
static STREAM: Message = Message(&[Raw, Text, In(&ENTRY), Skip]);
static ENTRY: Message = Message(&[Raw, Skip, Text, Label, Label]);

pub(crate) static ZIPKIN: Message = Message(&[Raw, OfResource(&ZIPKIN_SPAN)]);
static ZIPKIN_SPAN: Message =
    Message(&[Raw, Skip, Skip, Skip, Raw, Text, Skip, Skip, In(&ENDPOINT), In(&ENDPOINT), In(&ANNOTATION), Label, Skip, Skip]);
static ENDPOINT: Message = Message(&[Raw, Text, Skip, Skip, Skip]);
static ANNOTATION: Message = Message(&[Raw, Skip, Text]);
