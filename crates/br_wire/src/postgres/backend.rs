//! What a server says. Each function appends one message.

/// Messages without a content.
pub const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
pub const PASSWORD_WANTED: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
pub const PORTAL_SUSPENDED: &[u8] = b"s\0\0\0\x04";
pub const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    Idle,
    Open,
    Failed,
}

/// What went wrong, as PostgreSQL says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// SQLSTATE.
    pub state: &'static str,
    pub message: String,
    /// In characters of the query, from 1.
    pub position: Option<usize>,
}

impl Fault {
    pub fn new(state: &'static str, message: impl Into<String>) -> Self {
        Self { state, message: message.into(), position: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The connection ends.
    Fatal,
    /// The answer stands, with this beside it.
    Warning,
}

fn framed(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend([0; 4]);
    body(out);
    end_frame(out, at);
}

fn end_frame(out: &mut [u8], at: usize) {
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A zero byte inside would end it early.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    framed(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// What a client needs to cancel what its connection computes.
pub fn key_data(out: &mut Vec<u8>, process: i32, secret: i32) {
    framed(out, b'K', |out| {
        out.extend(process.to_be_bytes());
        out.extend(secret.to_be_bytes());
    });
}

/// Version 3.0 is spoken, and none of these options is known.
pub fn negotiate_version(out: &mut Vec<u8>, unknown_options: &[&str]) {
    framed(out, b'v', |out| {
        out.extend(0x0003_0000_u32.to_be_bytes());
        out.extend((unknown_options.len() as u32).to_be_bytes());
        for option in unknown_options {
            text(out, option);
        }
    });
}

pub fn ready(out: &mut Vec<u8>, state: TransactionState) {
    framed(out, b'Z', |out| {
        out.push(match state {
            TransactionState::Idle => b'I',
            TransactionState::Open => b'T',
            TransactionState::Failed => b'E',
        });
    });
}

pub fn error(out: &mut Vec<u8>, severity: Severity, fault: &Fault) {
    let (tag, name) = match severity {
        Severity::Error => (b'E', "ERROR"),
        Severity::Fatal => (b'E', "FATAL"),
        Severity::Warning => (b'N', "WARNING"),
    };
    framed(out, tag, |out| {
        for (field, value) in [(b'S', name), (b'V', name), (b'C', fault.state), (b'M', fault.message.as_str())] {
            out.push(field);
            text(out, value);
        }
        if let Some(position) = fault.position {
            out.push(b'P');
            text(out, &position.to_string());
        }
        out.push(0);
    });
}

pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    framed(out, b'C', |out| text(out, tag));
}

pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    framed(out, b't', |out| {
        out.extend((types.len() as u16).to_be_bytes());
        out.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    });
}

/// Columns with their name, type, the size of the type (negative for those that vary), and whether they come in binary.
pub fn row_description<'a>(out: &mut Vec<u8>, columns: impl ExactSizeIterator<Item = (&'a str, u32, i16, bool)>) {
    framed(out, b'T', |out| {
        out.extend((columns.len() as u16).to_be_bytes());
        for (name, oid, size, is_binary) in columns {
            text(out, name);
            // No table, no column number.
            out.extend([0; 6]);
            out.extend(oid.to_be_bytes());
            out.extend(size.to_be_bytes());
            out.extend((-1_i32).to_be_bytes());
            out.extend(u16::from(is_binary).to_be_bytes());
        }
    });
}
