//! Who a Sentry SDK says it is: the public key of its DSN.

/// The longest key that is looked at; Sentry's own have 32 characters.
const KEY_BYTES_MAX: usize = 256;

/// `http://key@host:1811/1`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    pub key: String,
    pub host: String,
    pub project: String,
}

impl Dsn {
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.trim().split_once("://")?;
        let (credentials, rest) = rest.split_once('@')?;
        let (address, project) = rest.trim_end_matches('/').rsplit_once('/')?;
        // Old DSNs have a secret behind the key.
        let key = credentials.split(':').next().filter(|key| is_key(key))?;
        let host = address.split('/').next().filter(|host| !host.is_empty())?;
        Some(Self { key: key.to_owned(), host: host.to_owned(), project: project.to_owned() })
    }
}

/// The key of a request: from the header `X-Sentry-Auth` (or `Authorization`, which has the same form), else from `sentry_key`
/// in the query.
pub fn key_of(auth_header: Option<&str>, query: Option<&str>) -> Option<String> {
    auth_header.and_then(key_of_header).or_else(|| query.and_then(key_of_query)).map(str::to_owned)
}

fn key_of_header(header: &str) -> Option<&str> {
    let (scheme, fields) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("sentry") {
        return None;
    }
    fields.split(',').find_map(|field| {
        let (name, value) = field.split_once('=')?;
        (name.trim() == "sentry_key").then(|| value.trim().trim_matches('"')).filter(|key| is_key(key))
    })
}

fn key_of_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("sentry_key=")).filter(|key| is_key(key))
}

fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (header, query, expect) in [
            (Some("Sentry sentry_key=abc, sentry_version=7"), None, Some("abc")),
            (Some("sentry sentry_version=7,sentry_key=abc,sentry_client=x"), None, Some("abc")),
            (Some("Bearer abc"), Some("sentry_version=7&sentry_key=def"), Some("def")),
            (None, Some("sentry_key="), None),
            (Some("Sentry"), None, None),
            (None, None, None),
        ] {
            assert_eq!(key_of(header, query).as_deref(), expect, "{header:?} {query:?}");
        }
    }

    #[test]
    fn dsns() {
        let dsn = Dsn::parse("http://key:secret@host:1811/prefix/42").expect("a DSN");
        assert_eq!((dsn.key.as_str(), dsn.host.as_str(), dsn.project.as_str()), ("key", "host:1811", "42"));
        for text in ["", "host/1", "http://host/1", "http://key@host", "http://@host/1"] {
            assert_eq!(Dsn::parse(text), None, "{text}");
        }
    }
}
