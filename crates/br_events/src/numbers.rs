//! Bounds on attributes that are numbers, held against what a file says of the pages of their columns (Parquet's column index).

use crate::attributes::{DOUBLE, INT, parse_promoted};
use crate::log_rows::is_labelled;
use crate::summary::{FileStats, KEYS_MAX, NAMES_MAX};
use arrow::datatypes::Schema;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

/// Whether attributes of this type have the least and the greatest value of each page kept.
pub(crate) fn is_number(letter: u8) -> bool {
    [INT, DOUBLE].contains(&letter)
}

#[derive(Clone, Debug)]
pub(crate) enum Name {
    Key(String),
    /// All keys of this label name.
    Label(String),
}

/// An attribute that there must be and that, where it is a number, must lie between these, both included.
#[derive(Clone, Debug)]
pub(crate) struct NumberBetween {
    pub(crate) name: Name,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl NumberBetween {
    fn is_named(&self, key: &str) -> bool {
        match &self.name {
            Name::Key(name) => name == key,
            Name::Label(name) => is_labelled(key, name),
        }
    }

    /// The columns of a file that alone can have it, by number; `None` where it may stand elsewhere or be something else than a number.
    pub(crate) fn columns(&self, stats: &FileStats, schema: &Schema) -> Option<Vec<usize>> {
        let are_all_known = stats.keys.len() < KEYS_MAX && stats.resource_keys.len() < NAMES_MAX;
        let mut named = stats.keys.iter().enumerate().filter(|(_, (key, ..))| self.is_named(key));
        let are_columns = named.all(|(at, (key, letter, _))| {
            at < stats.columns && u8::try_from(*letter).is_ok_and(is_number) && !stats.may_have_in_map(key)
        });
        let is_of_resource = stats.resource_keys.iter().any(|key| self.is_named(key));
        // Nested columns come behind those of attributes: up to there a column of the schema is one of the file.
        let columns = schema.fields().iter().enumerate();
        let columns = columns.filter(|(_, field)| parse_promoted(field.name()).is_some_and(|(key, _)| self.is_named(key)));
        (are_all_known && are_columns && !is_of_resource).then(|| columns.map(|(at, _)| at).collect())
    }

    /// Whether a page of a column may have a value between the bounds.
    pub(crate) fn may_be_in(&self, index: &ColumnIndexMetaData, page: usize) -> bool {
        let bounds = match index {
            ColumnIndexMetaData::INT64(index) if (page as u64) < index.num_pages() => {
                index.min_value(page).zip(index.max_value(page)).map(|(min, max)| (*min as f64, *max as f64))
            }
            ColumnIndexMetaData::DOUBLE(index) if (page as u64) < index.num_pages() => {
                index.min_value(page).zip(index.max_value(page)).map(|(min, max)| (*min, *max))
            }
            _ => return true,
        };
        // A page without bounds has no value.
        bounds.is_some_and(|(min, max)| max >= self.low && min <= self.high)
    }
}
