//! OTLP over gRPC. The message is taken as bytes: it is decoded by the same code as OTLP over HTTP, and journaled as it came.

use crate::intake::{AcceptError, Incoming, Intake};
use axum::body::Body;
use br_journal::Protocol;
use br_model::TenantId;
use br_std::Kind;
use br_wire::otlp;
use bytes::{Buf, BufMut, Bytes};
use futures::TryStreamExt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};

/// The services of OTLP with the protocols of their messages.
pub const SERVICES: [(&str, Protocol); 3] = [
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Protocol::OTLP_TRACES),
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Protocol::OTLP_METRICS),
    ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Protocol::OTLP_LOGS),
];

/// Answers one export call.
pub async fn export(
    intake: Arc<Intake>,
    tenant: TenantId,
    protocol: Protocol,
    message_bytes_max: usize,
    request: axum::extract::Request,
) -> axum::http::Response<tonic::body::Body> {
    let mut grpc = Grpc::new(RawCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(message_bytes_max);
    let request = request.map(|body| Body::from_stream(body.into_data_stream().map_err(|error| body_status(&error))));
    grpc.unary(Export { intake, tenant, protocol }, request).await
}

/// Why a body broke off, in gRPC's words: where the reason is ours, the exporter shall try again or not as it says.
fn body_status(error: &axum::Error) -> Status {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<AcceptError>() {
            return status(ours);
        }
        cause = error.source();
    }
    Status::unavailable(error.to_string())
}

struct Export {
    intake: Arc<Intake>,
    tenant: TenantId,
    protocol: Protocol,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (intake, tenant, protocol) = (self.intake.clone(), self.tenant, self.protocol);
        Box::pin(async move {
            let content_type = "application/x-protobuf".to_owned();
            let incoming = Incoming {
                tenant,
                protocol,
                content_type,
                content_encoding: String::new(),
                context: Vec::new(),
                body: request.into_inner(),
            };
            let receipt = intake.accept(incoming).await.map_err(|error| status(&error))?;
            let rejected = usize::try_from(receipt.rejected_count).unwrap_or(usize::MAX);
            let answer = otlp::response(signal(protocol), otlp::Encoding::Protobuf, rejected, &receipt.message());
            Ok(Response::new(Bytes::from(answer)))
        })
    }
}

/// The signal whose answer a protocol has.
pub fn signal(protocol: Protocol) -> otlp::Signal {
    match protocol {
        Protocol::OTLP_METRICS => otlp::Signal::Metrics,
        Protocol::OTLP_LOGS => otlp::Signal::Logs,
        _ => otlp::Signal::Traces,
    }
}

/// Stock exporters try again on UNAVAILABLE, and give up on the rest.
fn status(error: &AcceptError) -> Status {
    let error = match error {
        AcceptError::Wire(error) => return Status::invalid_argument(error.to_string()),
        AcceptError::Other(error) => error,
    };
    let code = match error.kind() {
        Kind::FixRequest => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::OverLimit => Code::ResourceExhausted,
        Kind::Unauthorized => Code::PermissionDenied,
        Kind::Retry | Kind::Closed => Code::Unavailable,
        Kind::Corrupt => Code::Internal,
    };
    Status::new(code, error.message())
}

/// Hands messages through as bytes.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
