//! The protobuf encoding: `zipkin.proto3.ListOfSpans`.

use super::model::{Endpoint, List, Parsed, micros};
use crate::Result;
use crate::protobuf::{Field, Reader};
use br_model::{SpanId, SpanKind, TraceId};
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) fn read(body: &[u8], list: &mut List<'_>) -> Result<()> {
    let mut reader = Reader::new(body);
    let mut index = 0;
    while let Some((number, field)) = reader.next()? {
        if number == 1 {
            let span =
                span(field.bytes()?, list.limits.attributes_max).map_err(|error| error.context(format!("span[{index}]")))?;
            list.add(span)?;
            index += 1;
        }
    }
    Ok(())
}

/// An error where the message is none; inside of it what is wrong with a message that is one.
fn span(message: &[u8], parts_max: usize) -> Result<Result<Parsed, String>> {
    let mut span = Parsed::default();
    let (mut trace_id, mut span_id, mut start, mut duration): (&[u8], &[u8], u64, u64) = (&[], &[], 0, 0);
    let mut reader = Reader::new(message);
    let mut wrong = None;
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => trace_id = field.bytes()?,
            2 => match field.bytes()? {
                id if matches!(id.len(), 0 | 8) => span.parent_span_id = SpanId::from_bytes(id),
                id => wrong = Some(format!("parent_id must have 8 bytes; it has {} bytes", id.len())),
            },
            3 => span_id = field.bytes()?,
            4 => span.kind = kind(field.u64()?),
            5 => span.name = field.lossy()?,
            6 => start = fixed(field)?,
            7 => duration = field.u64()?,
            8 => span.local = endpoint(field.bytes()?)?,
            9 => span.remote = endpoint(field.bytes()?)?,
            10 if span.annotations.len() < parts_max => {
                let (at, value) = annotation(field.bytes()?)?;
                match micros(at, "timestamp of an annotation") {
                    Ok(at) => span.annotations.push((at, value)),
                    Err(reason) => wrong = Some(reason),
                }
            }
            11 if span.tags.len() < parts_max => {
                let (key, value) = tag(field.bytes()?)?;
                if !key.is_empty() {
                    span.tags.push((key, value));
                }
            }
            10 | 11 => span.dropped_parts += 1,
            12 => span.debug = field.u64()? != 0,
            13 => span.shared = field.u64()? != 0,
            _ => {}
        }
    }
    Ok(wrong.map_or(Ok(()), Err).and_then(|()| {
        span.trace_id = padded_trace_id(trace_id)?;
        span.span_id = SpanId::from_bytes(span_id);
        if span.span_id.is_none() {
            return Err(format!("id must have 8 bytes, not all zero; it has {} bytes", span_id.len()));
        }
        span.start = micros(start, "timestamp")?;
        span.duration_nanos = micros(duration, "duration")?.map_or(0, |duration| duration.0);
        Ok(span)
    }))
}

/// Of 64 bits or of 128.
fn padded_trace_id(bytes: &[u8]) -> Result<TraceId, String> {
    let id = match <[u8; 8]>::try_from(bytes) {
        Ok(low) => TraceId(u128::from(u64::from_be_bytes(low)).to_be_bytes()),
        Err(_) => TraceId::from_bytes(bytes),
    };
    if id.is_none() {
        return Err(format!("trace_id must have 8 or 16 bytes, not all zero; it has {} bytes", bytes.len()));
    }
    Ok(id)
}

fn fixed(field: Field<'_>) -> Result<u64> {
    match field {
        Field::Fixed64(value) => Ok(value),
        other => other.u64(),
    }
}

fn kind(number: u64) -> SpanKind {
    match number {
        1 => SpanKind::Client,
        2 => SpanKind::Server,
        3 => SpanKind::Producer,
        4 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn endpoint(message: &[u8]) -> Result<Endpoint> {
    let mut endpoint = Endpoint::default();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => endpoint.service = field.lossy()?,
            2 => {
                let address = <[u8; 4]>::try_from(field.bytes()?);
                endpoint.ipv4 = address.map(|bytes| Ipv4Addr::from(bytes).to_string()).unwrap_or_default();
            }
            3 => {
                let address = <[u8; 16]>::try_from(field.bytes()?);
                endpoint.ipv6 = address.map(|bytes| Ipv6Addr::from(bytes).to_string()).unwrap_or_default();
            }
            4 => endpoint.port = u16::try_from(field.u64()?).unwrap_or(0),
            _ => {}
        }
    }
    Ok(endpoint)
}

fn annotation(message: &[u8]) -> Result<(u64, String)> {
    let mut annotation = (0, String::new());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => annotation.0 = fixed(field)?,
            2 => annotation.1 = field.lossy()?,
            _ => {}
        }
    }
    Ok(annotation)
}

fn tag(message: &[u8]) -> Result<(String, String)> {
    let mut tag = (String::new(), String::new());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => tag.0 = field.lossy()?,
            2 => tag.1 = field.lossy()?,
            _ => {}
        }
    }
    Ok(tag)
}
