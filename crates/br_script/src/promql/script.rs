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
