//! What an answer lacks because stored bytes are damaged.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Files that a query could not read in full. Every part of the query adds to it; whoever answers tells of it.
#[derive(Debug, Default)]
pub struct DamageNotes {
    by_path: Mutex<BTreeMap<String, Damage>>,
}

/// What of a file could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    File,
    /// So many chunks of it.
    Chunks(u64),
}

/// Files that are told of one by one.
const FILES_TOLD_MAX: usize = 16;

impl DamageNotes {
    pub fn note(&self, path: &str, damage: Damage) {
        self.by_path.lock().insert(path.to_owned(), damage);
    }

    /// A sentence for each file, for the warnings of the answer.
    pub fn warnings(&self) -> Vec<String> {
        let by_path = self.by_path.lock();
        let tell = |(path, damage): (&String, &Damage)| match damage {
            Damage::File => format!("{path} is damaged: the answer lacks what it holds"),
            Damage::Chunks(1) => format!("1 chunk of {path} is damaged: the answer lacks its samples"),
            Damage::Chunks(count) => format!("{count} chunks of {path} are damaged: the answer lacks their samples"),
        };
        let mut warnings: Vec<String> = by_path.iter().take(FILES_TOLD_MAX).map(tell).collect();
        if by_path.len() > FILES_TOLD_MAX {
            warnings.push(format!("{} more files are damaged", by_path.len() - FILES_TOLD_MAX));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_told_once() {
        let notes = DamageNotes::default();
        for at in 0..20 {
            notes.note(&format!("f{at:02}"), Damage::Chunks(1));
        }
        notes.note("f00", Damage::Chunks(3));
        notes.note("f01", Damage::File);
        let warnings = notes.warnings();
        assert_eq!(warnings.len(), 17);
        assert_eq!(warnings[0], "3 chunks of f00 are damaged: the answer lacks their samples");
        assert_eq!(warnings[1], "f01 is damaged: the answer lacks what it holds");
        assert_eq!(warnings[16], "4 more files are damaged");
    }
}
