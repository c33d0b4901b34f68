//! PostgreSQL's protocol, version 3: what a client says, and what a server answers.
//!
//! Source: "Frontend/Backend Protocol" of PostgreSQL's manual. Own code rather than a crate, because a message is bounded before it
//! is read here, and because the crates at hand bring a second set of digests and make DataFusion build with other features.

mod backend;
mod statements;

pub use backend::{
    AUTHENTICATION_OK, BIND_COMPLETE, CLOSE_COMPLETE, EMPTY_QUERY, Fault, NO_DATA, PARSE_COMPLETE, PASSWORD_WANTED,
    PORTAL_SUSPENDED, Severity, TransactionState, command_complete, error, key_data, negotiate_version, parameter_description,
    parameter_status, ready, row_description,
};
pub use statements::{split, words};

use crate::error::{Result, WireError};

/// What a client opens a connection with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It asks for TLS.
    Tls,
    /// It asks for encryption by GSSAPI.
    Gss,
    /// Stop what another connection computes.
    Cancel {
        process: i32,
        secret: i32,
    },
    Startup(Startup),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Of version 3; a server that knows less says so.
    pub minor_version: u16,
    pub parameters: Vec<(String, String)>,
}

/// What a client says once it has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Query(String),
    Parse {
        name: String,
        query: String,
        parameter_types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: u32,
    },
    Close(Target),
    Flush,
    Sync,
    Password(String),
    Terminate,
    /// Parts of a COPY that was refused: a server passes over them.
    Copy,
    FunctionCall,
}

/// A prepared statement, or a portal: a statement with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Statement(String),
    Portal(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    pub portal: String,
    pub statement: String,
    /// Whether they are binary; none for all text, one for all.
    pub parameter_formats: Vec<bool>,
    pub parameters: Vec<Option<Vec<u8>>>,
    pub result_formats: Vec<bool>,
}

/// A startup packet may have this many bytes, as in PostgreSQL.
const OPENING_BYTES_MAX: usize = 10_000;
const TLS_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;
const GSS_REQUEST: u32 = 80_877_104;

/// The opening and its length, or nothing while bytes are missing.
pub fn opening(bytes: &[u8]) -> Result<Option<(Opening, usize)>> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(8..=OPENING_BYTES_MAX).contains(&length) {
        return Err(WireError::malformed("the first bytes are no startup packet of PostgreSQL's protocol"));
    }
    let Some(packet) = bytes.get(4..length) else { return Ok(None) };
    let mut reader = Reader(packet);
    let code = reader.u32()?;
    let opening = match code {
        TLS_REQUEST => Opening::Tls,
        GSS_REQUEST => Opening::Gss,
        CANCEL_REQUEST => Opening::Cancel { process: reader.i32()?, secret: reader.i32()? },
        _ if code >> 16 == 3 => {
            let mut parameters = Vec::new();
            while !reader.0.is_empty() && reader.0[0] != 0 {
                parameters.push((reader.text()?, reader.text()?));
            }
            Opening::Startup(Startup { minor_version: (code & 0xffff) as u16, parameters })
        }
        _ => {
            let (major, minor) = (code >> 16, code & 0xffff);
            return Err(WireError::malformed(format!("version {major}.{minor} of the protocol is not known: 3.0 is")));
        }
    };
    Ok(Some((opening, length)))
}

/// The next message and its length, or nothing while bytes are missing. `bytes_max` bounds a message.
pub fn message(bytes: &[u8], bytes_max: usize) -> Result<Option<(Message, usize)>> {
    let Some((&tag, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"QPBDECHSpXdcfF".contains(&tag) {
        return Err(WireError::malformed(format!("a message of the unknown kind {:?}", char::from(tag))));
    }
    let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length < 4 {
        return Err(WireError::malformed("a message says that it is shorter than its own length field"));
    }
    if length > bytes_max {
        return Err(WireError::TooLarge(format!("a message of {length} bytes: {bytes_max} are the most")));
    }
    let Some(body) = rest.get(4..length) else { return Ok(None) };
    Ok(Some((body_of(tag, &mut Reader(body))?, length + 1)))
}

fn body_of(tag: u8, reader: &mut Reader<'_>) -> Result<Message> {
    Ok(match tag {
        b'Q' => Message::Query(reader.text()?),
        b'P' => {
            let (name, query) = (reader.text()?, reader.text()?);
            let count = reader.u16()?;
            let parameter_types = (0..count).map(|_| reader.u32()).collect::<Result<_>>()?;
            Message::Parse { name, query, parameter_types }
        }
        b'B' => Message::Bind(bind(reader)?),
        b'D' => Message::Describe(target(reader)?),
        b'C' => Message::Close(target(reader)?),
        // Zero and less mean all.
        b'E' => Message::Execute { portal: reader.text()?, rows_max: u32::try_from(reader.i32()?).unwrap_or(0) },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'p' => Message::Password(reader.text()?),
        b'X' => Message::Terminate,
        b'F' => Message::FunctionCall,
        _ => Message::Copy,
    })
}

fn bind(reader: &mut Reader<'_>) -> Result<Bind> {
    let (portal, statement) = (reader.text()?, reader.text()?);
    let parameter_formats = formats(reader)?;
    let count = reader.u16()?;
    let mut parameters = Vec::new();
    for _ in 0..count {
        // -1 is NULL.
        parameters.push(match usize::try_from(reader.i32()?) {
            Ok(length) => Some(reader.take(length)?.to_vec()),
            Err(_) => None,
        });
    }
    Ok(Bind { portal, statement, parameter_formats, parameters, result_formats: formats(reader)? })
}

fn formats(reader: &mut Reader<'_>) -> Result<Vec<bool>> {
    let count = reader.u16()?;
    (0..count)
        .map(|_| match reader.u16()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::malformed(format!("format {other}: 0 is text and 1 is binary"))),
        })
        .collect()
}

fn target(reader: &mut Reader<'_>) -> Result<Target> {
    match reader.take(1)? {
        b"S" => Ok(Target::Statement(reader.text()?)),
        b"P" => Ok(Target::Portal(reader.text()?)),
        _ => Err(WireError::malformed("neither a statement nor a portal")),
    }
}

/// Of `count` values the one at `at` is binary, by the rule that one format counts for all.
pub fn is_binary(formats: &[bool], at: usize) -> bool {
    match formats {
        [] => false,
        [one] => *one,
        many => many.get(at).copied().unwrap_or(false),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| WireError::malformed("a message ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(self.u32()?.cast_signed())
    }

    /// Up to the next zero byte.
    fn text(&mut self) -> Result<String> {
        let end = memchr::memchr(0, self.0).ok_or_else(|| WireError::malformed("a text without its end"))?;
        let text = self.take(end)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| WireError::malformed("a text that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(tag: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = tag.to_vec();
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn openings_are_told_apart() {
        let startup = packet(b"", b"\0\x03\0\0user\0ana\0database\0x\0\0");
        let expect = vec![("user".to_owned(), "ana".to_owned()), ("database".to_owned(), "x".to_owned())];
        let (got, length) = opening(&startup).expect("valid").expect("whole");
        assert_eq!((got, length), (Opening::Startup(Startup { minor_version: 0, parameters: expect }), startup.len()));
        assert_eq!(opening(&startup[..20]).expect("valid so far"), None);
        assert_eq!(opening(&packet(b"", &TLS_REQUEST.to_be_bytes())).expect("valid"), Some((Opening::Tls, 8)));
        let cancel = packet(b"", &[&CANCEL_REQUEST.to_be_bytes()[..], &[0, 0, 0, 7, 0, 0, 0, 9]].concat());
        assert_eq!(opening(&cancel).expect("valid"), Some((Opening::Cancel { process: 7, secret: 9 }, 16)));
        for wrong in [&b"GET / HTTP/1.1\r\n"[..], &[0, 0, 0, 4], &[0x7f, 0xff, 0xff, 0xff], &packet(b"", b"\0\x02\0\0")] {
            assert!(opening(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_bind_brings_nulls_and_formats() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x02\0\x05\0\0";
        let expect = Bind {
            portal: "p".into(),
            statement: "s".into(),
            parameter_formats: vec![true],
            parameters: vec![None, Some(vec![0, 5])],
            result_formats: vec![],
        };
        let bytes = packet(b"B", body);
        assert_eq!(message(&bytes, 100).expect("valid"), Some((Message::Bind(expect), bytes.len())));
        assert!(matches!(message(&bytes, 10), Err(WireError::TooLarge(_))), "before its bytes are here");
        assert!(message(&packet(b"B", &body[..12]), 100).is_err(), "cut");
        assert!(message(b"z", 100).is_err(), "unknown at its first byte");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tag in prop::sample::select(b"QPBDECHSpXdcfFzz".to_vec()), body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = message(&packet(&[tag], &body), 1 << 20);
            let _ = message(&body, 1 << 20);
            let _ = opening(&packet(b"", &body));
            let _ = opening(&body);
        }
    }
}
