//! Lines of the files that container runtimes write: Docker's `json-file`, and the format of Kubernetes' container runtime interface.
//!
//! Both cut long lines: a piece without its end says so, and the next one of the same stream goes on with it.
//!
//! Sources: Docker "JSON File logging driver", Kubernetes "CRI container log format" (`kubelet/kuberuntime/logs`).

use crate::json::time;
use br_std::Nanos;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What one line of such a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece<'l> {
    /// When the runtime received it; `None` where that makes no sense.
    pub time: Option<Nanos>,
    pub is_stderr: bool,
    /// Without the line feed.
    pub text: Cow<'l, str>,
    /// The next piece of the same stream goes on with this line.
    pub is_partial: bool,
    /// What the driver's options `labels` and `env` add to each line.
    pub extra: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct DockerLine<'l> {
    #[serde(borrow)]
    log: Cow<'l, str>,
    #[serde(borrow, default)]
    stream: Cow<'l, str>,
    #[serde(borrow)]
    time: Cow<'l, str>,
    #[serde(default)]
    attrs: BTreeMap<String, Value>,
}

/// `{"log":"paid\n","stream":"stdout","time":"2026-11-27T03:03:03.5Z"}`; `None` when it is something else.
pub fn docker(line: &str) -> Option<Piece<'_>> {
    let line = line.trim();
    if !line.starts_with('{') || !line.ends_with('}') {
        return None;
    }
    let DockerLine { log, stream, time: at, attrs } = serde_json::from_str(line).ok()?;
    let (text, is_partial) = match log {
        Cow::Borrowed(text) => match text.strip_suffix('\n') {
            Some(whole) => (Cow::Borrowed(whole), false),
            None => (Cow::Borrowed(text), true),
        },
        Cow::Owned(mut text) => {
            let is_whole = text.ends_with('\n');
            text.truncate(text.len() - usize::from(is_whole));
            (Cow::Owned(text), !is_whole)
        }
    };
    let extra = attrs.into_iter().map(|(key, value)| (key, crate::json::text(&value))).collect();
    Some(Piece { time: time_of(&at), is_stderr: stream == "stderr", text, is_partial, extra })
}

/// `2026-11-27T03:03:03.5Z stdout F paid`; `None` when it is something else.
pub fn cri(line: &str) -> Option<Piece<'_>> {
    let (at, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let (tags, text) = rest.split_once(' ').unwrap_or((rest, ""));
    // Further tags are reserved; they stand behind colons.
    let is_partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    let time = Some(time_of(at)?);
    Some(Piece { time, is_stderr: stream == "stderr", text: Cow::Borrowed(text), is_partial, extra: Vec::new() })
}

fn time_of(text: &str) -> Option<Nanos> {
    text.starts_with(|first: char| first.is_ascii_digit()).then(|| time(&Value::from(text)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Option<Nanos> = Some(Nanos(1_767_348_000_500_000_000));

    #[test]
    fn lines_of_docker() {
        let line = r#"{"log":"paid\n","stream":"stdout","time":"2026-01-02T10:00:00.5Z"}"#;
        let whole = docker(line).expect("a line");
        assert_eq!((whole.time, whole.is_stderr, &*whole.text, whole.is_partial), (AT, false, "paid", false));
        let line = r#"{"log":"par\"t","stream":"stderr","attrs":{"env":"prod","n":7},"time":"2026-01-02T10:00:00.5Z"}"#;
        let part = docker(line).expect("a line");
        assert_eq!((part.is_stderr, &*part.text, part.is_partial), (true, "par\"t", true));
        assert_eq!(part.extra, [("env".to_owned(), "prod".to_owned()), ("n".to_owned(), "7".to_owned())]);
        for other in
            ["", "{", r#"{"log":"x"}"#, r#"{"msg":"x","time":"2026-01-02T10:00:00Z"}"#, r#"{"log":1,"time":"x"}"#, "plain"]
        {
            assert_eq!(docker(other), None, "{other}");
        }
        assert_eq!(docker(r#"{"log":"x\n","time":"soon"}"#).map(|piece| piece.time), Some(None));
    }

    #[test]
    fn lines_of_kubernetes() {
        let check = |line: &str, expect: Option<(&str, bool, bool)>| {
            let piece = cri(line);
            let shown = piece.as_ref().map(|piece| (&*piece.text, piece.is_stderr, piece.is_partial));
            assert_eq!(shown, expect, "{line}");
            assert!(piece.is_none_or(|piece| piece.time == AT), "{line}");
        };
        check("2026-01-02T10:00:00.500000000Z stdout F paid  twice", Some(("paid  twice", false, false)));
        check("2026-01-02T11:00:00.5+01:00 stderr P pa", Some(("pa", true, true)));
        check("2026-01-02T10:00:00.5Z stdout F:x ", Some(("", false, false)));
        check("2026-01-02T10:00:00.5Z stdout F", Some(("", false, false)));
        for other in [
            "",
            "now stdout F x",
            "2026-01-02T10:00:00.5Z stdin F x",
            "2026-01-02T10:00:00.5Z stdout x",
            "2026-01-02T10:00:00.5Z",
        ] {
            check(other, None);
        }
    }
}
