//! Splits a script into its commands.

/// A command and the lines that belong to it.
pub(super) struct Block<'s> {
    /// Of the command, from 1.
    pub(super) line: usize,
    pub(super) head: &'s str,
    pub(super) body: Vec<&'s str>,
}

impl Block<'_> {
    pub(super) fn command(&self) -> &str {
        self.head.split_whitespace().next().unwrap_or("")
    }
}

/// Lines are trimmed, comments are empty lines, and an empty line ends a command.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            is_open = false;
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or("");
        let starts_one = word == "clear" || word == "load" || word == "load_with_nhcb" || is_eval(word);
        match blocks.last_mut() {
            Some(block) if is_open && !starts_one => block.body.push(line),
            _ => {
                blocks.push(Block { line: at + 1, head: line, body: Vec::new() });
                is_open = word != "clear";
            }
        }
    }
    blocks
}

fn is_eval(word: &str) -> bool {
    matches!(word, "eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered")
}

/// A time or a duration in milliseconds: `5m`, `-30s`, `1.5`, `0`.
pub(super) fn millis(text: &str) -> Result<i64, String> {
    let (sign, plain) = match text.strip_prefix('-') {
        Some(plain) => (-1, plain),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Ok(secs) = plain.parse::<f64>() {
        return Ok(sign * (secs * 1000.0).round() as i64);
    }
    let duration = br_std::duration::parse(plain).map_err(|error| error.to_string())?;
    Ok(sign * duration.as_millis() as i64)
}
