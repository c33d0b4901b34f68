//! Python tracebacks, from their text.
//!
//! Reads what `traceback.format_exception` writes from Python 3.8 to 3.14: chains of causes, markers under the source
//! lines, repeated frames, syntax errors, exception groups.

use br_model::{Exception, Frame};

/// Frames kept of one exception: the innermost.
const FRAMES_MAX: usize = 512;
/// Exceptions kept of one text: the last.
const EXCEPTIONS_MAX: usize = 64;
/// Bytes kept of an exception's message.
const VALUE_BYTES_MAX: usize = 64 << 10;

const HEADER: &str = "Traceback (most recent call last):";
const CHAIN_LINES: [&str; 2] = [
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
];

/// The chain of exceptions in a text, the one that was raised last at the end. Empty when there is no traceback in it.
/// Members of an exception group stand before their group.
pub fn parse(text: &str) -> Vec<Exception> {
    let mut parser = Parser::default();
    for line in text.lines() {
        parser.line(line);
    }
    parser.finish()
}

/// Code of the service itself: not the standard library, not an installed package, not a frozen module.
pub fn is_in_app(filename: &str) -> bool {
    let path = filename.replace('\\', "/");
    let is_library =
        ["/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python"].iter().any(|part| path.contains(part))
            || path.starts_with("<frozen ")
            || path.starts_with("lib/python");
    !is_library
}

/// `requests.api` for `…/site-packages/requests/api.py`; empty where the path does not tell.
pub fn module_of(filename: &str) -> String {
    let path = filename.replace('\\', "/");
    if let Some(frozen) = path.strip_prefix("<frozen ").and_then(|rest| rest.strip_suffix('>')) {
        return frozen.to_owned();
    }
    let below = ["/site-packages/", "/dist-packages/"].iter().find_map(|part| path.rsplit_once(part).map(|(_, rest)| rest));
    let below = below.or_else(|| path.split_once("/lib/python").and_then(|(_, rest)| rest.split_once('/')).map(|(_, rest)| rest));
    let Some(stem) = below.and_then(|rest| rest.strip_suffix(".py")) else { return String::new() };
    stem.strip_suffix("/__init__").unwrap_or(stem).replace('/', ".")
}

/// Splits `shop.errors.OutOfStock` into module and type.
pub fn split_type(qualified: &str) -> (&str, &str) {
    qualified.rsplit_once('.').unwrap_or(("", qualified))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No traceback is being read.
    #[default]
    Outside,
    Frames,
    /// Behind the type of an exception: its message may have more lines.
    Value,
}

#[derive(Default)]
struct Parser {
    state: State,
    /// How deep in exception groups.
    depth: usize,
    current: Exception,
    done: Vec<(usize, Exception)>,
}

impl Parser {
    fn line(&mut self, line: &str) {
        let (depth, line) = strip_group_prefix(line);
        let trimmed = line.trim();
        let is_group = trimmed.strip_prefix("Exception Group ") == Some(HEADER);
        if is_group || trimmed == HEADER {
            self.close();
            self.state = State::Frames;
            self.depth = depth;
            self.current.is_group = is_group;
            return;
        }
        match self.state {
            State::Outside => {}
            State::Frames => self.frame_line(line, trimmed),
            State::Value => self.value_line(line, trimmed),
        }
    }

    fn frame_line(&mut self, line: &str, trimmed: &str) {
        if let Some(frame) = file_line(trimmed) {
            if self.current.frames.len() == FRAMES_MAX {
                self.current.frames.remove(0);
            }
            self.current.frames.push(frame);
        } else if line.starts_with(' ') {
            self.source_line(trimmed);
        } else if !trimmed.is_empty() {
            self.exception_line(trimmed);
        }
    }

    /// The source below a frame; markers and notes about repeated frames are not source.
    fn source_line(&mut self, trimmed: &str) {
        let is_marker =
            trimmed.chars().all(|character| matches!(character, '^' | '~' | ' ')) || trimmed.starts_with("[Previous line");
        if let Some(frame) = self.current.frames.last_mut()
            && frame.context_line.is_empty()
            && !is_marker
        {
            trimmed.clone_into(&mut frame.context_line);
        }
    }

    fn exception_line(&mut self, line: &str) {
        let (qualified, value) = line.split_once(": ").unwrap_or((line.strip_suffix(':').unwrap_or(line), ""));
        let (module, exception_type) = split_type(qualified);
        module.clone_into(&mut self.current.module);
        exception_type.clone_into(&mut self.current.exception_type);
        value.clone_into(&mut self.current.value);
        self.state = State::Value;
    }

    fn value_line(&mut self, line: &str, trimmed: &str) {
        if CHAIN_LINES.contains(&trimmed) {
            self.close();
        } else if !is_group_rule(trimmed) && self.current.value.len() + line.len() < VALUE_BYTES_MAX {
            self.current.value.push('\n');
            self.current.value.push_str(line);
        }
    }

    fn close(&mut self) {
        let mut exception = std::mem::take(&mut self.current);
        if std::mem::take(&mut self.state) == State::Outside
            || (exception.frames.is_empty() && exception.exception_type.is_empty())
        {
            return;
        }
        exception.value.truncate(exception.value.trim_end().len());
        if self.done.len() == EXCEPTIONS_MAX {
            self.done.remove(0);
        }
        self.done.push((self.depth, exception));
    }

    fn finish(mut self) -> Vec<Exception> {
        self.close();
        self.done.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        self.done.into_iter().map(|(_, exception)| exception).collect()
    }
}

/// Takes `  | ` and `  + ` off the front, which stand before each line of an exception group, and tells how deep it is.
fn strip_group_prefix(line: &str) -> (usize, &str) {
    let trimmed = line.trim_start();
    let indent = line.len() - trimmed.len();
    let rest = match trimmed.as_bytes() {
        [b'|', ..] => &trimmed[1..],
        [b'+', b' ', ..] if trimmed[1..].trim_start().starts_with("Exception Group ") => &trimmed[1..],
        _ => return (0, line),
    };
    (indent / 2, rest.strip_prefix(' ').unwrap_or(rest))
}

/// `+-+---------------- 1 ----------------` and its closing line.
fn is_group_rule(trimmed: &str) -> bool {
    trimmed.starts_with("+-")
}

/// `File "/srv/shop/pay.py", line 12, in charge`; a syntax error has no `in`.
fn file_line(trimmed: &str) -> Option<Frame> {
    let rest = trimmed.strip_prefix("File \"")?;
    let (filename, rest) = rest.split_once("\", line ")?;
    let (line, function) = rest.split_once(", in ").unwrap_or((rest, ""));
    Some(Frame {
        function: function.to_owned(),
        module: module_of(filename),
        filename: filename.to_owned(),
        path: String::new(),
        line: line.trim().parse().ok()?,
        in_app: is_in_app(filename),
        context_line: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let shown: Vec<String> = parse(text).iter().map(show).collect();
        assert_eq!(shown, expect, "{text}");
    }

    fn show(exception: &Exception) -> String {
        let frame = |frame: &Frame| {
            let own = if frame.in_app { "" } else { "lib " };
            format!("{own}{}:{} {} `{}`", frame.filename, frame.line, frame.function, frame.context_line)
        };
        let frames: Vec<String> = exception.frames.iter().map(frame).collect();
        let group = if exception.is_group { "group " } else { "" };
        format!("{group}{}|{}|{}|{}", exception.module, exception.exception_type, exception.value, frames.join("; "))
    }

    #[test]
    fn chains_with_markers() {
        check(
            "INFO something before
Traceback (most recent call last):
  File \"/srv/shop/pay.py\", line 12, in charge
    return total / count
           ~~~~~~^~~~~~~
ZeroDivisionError: division by zero

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File \"/srv/shop/app.py\", line 3, in <module>
    charge()
  [Previous line repeated 5 more times]
  File \"/usr/lib/python3.13/json/__init__.py\", line 9, in loads
    pass
shop.errors.PaymentError: card refused
second line
",
            &[
                "|ZeroDivisionError|division by zero|/srv/shop/pay.py:12 charge `return total / count`",
                "shop.errors|PaymentError|card refused\nsecond line|/srv/shop/app.py:3 <module> `charge()`; lib /usr/lib/python3.13/json/__init__.py:9 loads `pass`",
            ],
        );
    }

    #[test]
    fn syntax_errors_groups_and_bare_types() {
        check(
            "Traceback (most recent call last):\n  File \"a.py\", line 1\n    x = = 1\n        ^\nSyntaxError: invalid syntax",
            &["|SyntaxError|invalid syntax|a.py:1  `x = = 1`"],
        );
        check(
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nKeyboardInterrupt",
            &["|KeyboardInterrupt||a.py:1 f ``"],
        );
        check(
            "  + Exception Group Traceback (most recent call last):
  |   File \"a.py\", line 9, in main
  |     raise ExceptionGroup(\"two\", found)
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File \"a.py\", line 2, in one
    |     raise ValueError(\"bad\")
    | ValueError: bad
    +------------------------------------
",
            &[
                "|ValueError|bad|a.py:2 one `raise ValueError(\"bad\")`",
                "group |ExceptionGroup|two (1 sub-exception)|a.py:9 main `raise ExceptionGroup(\"two\", found)`",
            ],
        );
        check("no traceback here: at all", &[]);
    }

    #[test]
    fn modules_and_own_code() {
        assert_eq!(module_of("/venv/lib/python3.13/site-packages/requests/api.py"), "requests.api");
        assert_eq!(module_of("/usr/lib/python3.13/json/__init__.py"), "json");
        assert_eq!(module_of("<frozen importlib._bootstrap>"), "importlib._bootstrap");
        assert_eq!(module_of("/srv/shop/pay.py"), "");
        assert!(is_in_app("C:\\shop\\pay.py") && !is_in_app("C:\\venv\\Lib\\site-packages\\x.py"));
    }
}
