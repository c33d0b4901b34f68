//! Where a metric stands in a file: rows are sorted by metric, and the footer names the sections that they fall into.
//!
//! A section holds whole metrics, or a part of one that is large, and is read, verified and kept in memory as one.
//! A query for one metric so reads its section, not the file.

use super::row::{HeadsChecksum, RowHead};
use br_model::labels::METRIC_NAME;
use br_std::hash::hash128;
use br_std::{Error, Result};
use br_storage::Matcher;
use std::ops::Range;

/// Small metrics share a section until it has this many rows.
const SECTION_ROWS_MIN: u32 = 512;
/// A large metric is cut, between two series, once a section has this many rows.
const SECTION_ROWS_MAX: u32 = 8192;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Metric of the first row.
    pub(crate) first_metric: String,
    pub(crate) first_row: u32,
    /// Equal for two sections whose series and rows of each series are equal: [`identity_with`] over all series.
    pub(crate) identity: u128,
    /// CRC-32 over label hash and head of the rows.
    pub(crate) crc32: u32,
}

/// The sections of one file, in the order of its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    sections: Vec<Section>,
    rows: u32,
}

/// What the identity of a section becomes with one more series.
pub(crate) fn identity_with(identity: u128, series_hash: u128, rows: u32) -> u128 {
    let mut bytes = [0; 36];
    bytes[..16].copy_from_slice(&identity.to_le_bytes());
    bytes[16..32].copy_from_slice(&series_hash.to_le_bytes());
    bytes[32..].copy_from_slice(&rows.to_le_bytes());
    hash128(&bytes)
}

impl Directory {
    /// Reads the text of the footer: `[["metric", first row, "identity", "crc32"], …]`.
    pub(crate) fn parse(text: &str, rows: u64) -> Result<Self> {
        let damaged = |what: &str| Error::corrupt(format!("the sections in its footer: {what}"));
        let rows = u32::try_from(rows).map_err(|_| damaged("more rows than can be numbered"))?;
        let parsed: Vec<(String, u32, String, String)> = serde_json::from_str(text)
            .map_err(|error| Error::corrupt(format!("the sections in its footer: {error}")).with_source(error))?;
        let mut sections: Vec<Section> = Vec::with_capacity(parsed.len());
        for (first_metric, first_row, identity, crc32) in parsed {
            let identity = u128::from_str_radix(&identity, 16).map_err(|_| damaged("an identity is no number"))?;
            let crc32 = u32::from_str_radix(&crc32, 16).map_err(|_| damaged("a checksum is no number"))?;
            let is_in_order = match sections.last() {
                Some(before) => before.first_row < first_row && before.first_metric <= first_metric,
                None => first_row == 0,
            };
            if !is_in_order || first_row >= rows {
                return Err(damaged("they are out of order"));
            }
            sections.push(Section { first_metric, first_row, identity, crc32 });
        }
        if sections.is_empty() && rows > 0 {
            return Err(damaged("there are none"));
        }
        Ok(Self { sections, rows })
    }

    pub(crate) fn to_json(&self) -> String {
        let rows = self.sections.iter().map(|section| {
            let Section { first_metric, first_row, identity, crc32 } = section;
            serde_json::json!([first_metric, first_row, format!("{identity:032x}"), format!("{crc32:08x}")])
        });
        serde_json::Value::Array(rows.collect()).to_string()
    }

    pub(crate) fn section(&self, at: u32) -> Option<&Section> {
        self.sections.get(at as usize)
    }

    /// Rows of a section; empty for one that is not there.
    pub(crate) fn rows(&self, at: u32) -> Range<u32> {
        let Some(section) = self.section(at) else { return 0..0 };
        section.first_row..self.section(at + 1).map_or(self.rows, |next| next.first_row)
    }

    /// Numbers of the sections that can hold series that satisfy all matchers.
    pub(crate) fn find(&self, matchers: &[Matcher]) -> Vec<u32> {
        let of_name = matchers.iter().filter(|matcher| matcher.name == METRIC_NAME);
        let Some(names) = of_name.filter_map(Matcher::literal_alternatives).min_by_key(Vec::len) else {
            return (0..self.sections.len() as u32).collect();
        };
        let mut found: Vec<u32> = names.into_iter().flat_map(|name| self.find_metric(name)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The section that begins before the metric, and all that begin with it.
    fn find_metric(&self, metric: &str) -> Range<u32> {
        let from = self.sections.partition_point(|section| &*section.first_metric < metric).saturating_sub(1);
        let to = self.sections.partition_point(|section| &*section.first_metric <= metric);
        from as u32..to as u32
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let texts: usize = self.sections.iter().map(|section| section.first_metric.len()).sum();
        texts + self.sections.len() * size_of::<Section>()
    }
}

/// Makes the directory while the rows of a file are written.
#[derive(Default)]
pub(crate) struct DirectoryBuilder {
    directory: Directory,
    open: Option<OpenSection>,
}

struct OpenSection {
    first_metric: String,
    last_metric: String,
    first_row: u32,
    identity: u128,
    crc32: HeadsChecksum,
}

impl DirectoryBuilder {
    /// Takes all rows of the next series.
    pub(crate) fn push(&mut self, metric: &str, hash: u128, heads: impl ExactSizeIterator<Item = RowHead>) -> Result<()> {
        let rows = u32::try_from(heads.len()).unwrap_or(u32::MAX);
        let end = self.directory.rows.checked_add(rows);
        let end = end.ok_or_else(|| Error::over_limit("a metrics file has at most 4 294 967 295 rows"))?;
        let is_full = self.open.as_ref().is_some_and(|open| {
            let count = self.directory.rows - open.first_row;
            count >= SECTION_ROWS_MAX || count >= SECTION_ROWS_MIN && open.last_metric != metric
        });
        if is_full {
            self.close();
        }
        let first_row = self.directory.rows;
        let open = self.open.get_or_insert_with(|| OpenSection {
            first_metric: metric.to_owned(),
            last_metric: metric.to_owned(),
            first_row,
            identity: 0,
            crc32: HeadsChecksum::default(),
        });
        if open.last_metric != metric {
            metric.clone_into(&mut open.last_metric);
        }
        open.identity = identity_with(open.identity, hash, rows);
        heads.for_each(|head| open.crc32.add(head, hash));
        self.directory.rows = end;
        Ok(())
    }

    fn close(&mut self) {
        let Some(OpenSection { first_metric, first_row, identity, crc32, .. }) = self.open.take() else { return };
        self.directory.sections.push(Section { first_metric, first_row, identity, crc32: crc32.finalize() });
    }

    pub(crate) fn finish(mut self) -> Directory {
        self.close();
        self.directory
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::ChunkKind;
    use super::*;
    use br_storage::MatchOp;

    fn directory(metrics: &[(&str, u32)]) -> Directory {
        let mut builder = DirectoryBuilder::default();
        let head = RowHead { kind: ChunkKind::Floats, min_ms: 1, max_ms: 2, count: 3 };
        for (metric, series) in metrics {
            for at in 0..*series {
                builder.push(metric, hash128(format!("{metric}{at}").as_bytes()), [head].into_iter()).expect("few rows");
            }
        }
        builder.finish()
    }

    #[test]
    fn each_metric_is_found_in_the_sections_that_hold_it() {
        let metrics = [("", 3), ("a", 600), ("b", 1), ("c", 20_000), ("d", 511), ("e", 2), ("f", 1)];
        let directory = directory(&metrics);
        let mut first_row = 0;
        for (metric, series) in metrics {
            let found = directory.find(&[Matcher::equal(METRIC_NAME, metric)]);
            let rows = first_row..first_row + series;
            let covered: Vec<u32> = found.iter().flat_map(|at| directory.rows(*at)).collect();
            assert!(rows.clone().all(|row| covered.binary_search(&row).is_ok()), "{metric}: {rows:?} in {found:?}");
            assert!(covered.len() as u32 <= series + 2 * SECTION_ROWS_MAX, "{metric}");
            first_row += series;
        }
        let all = directory.find(&[]);
        assert_eq!(all.iter().map(|at| directory.rows(*at).len()).sum::<usize>(), first_row as usize);
        let either = Matcher::new(MatchOp::Regex, METRIC_NAME, "a|f").expect("valid");
        assert!(directory.find(std::slice::from_ref(&either)).len() < all.len());
        let of_a = directory.find(&[Matcher::equal(METRIC_NAME, "a"), Matcher::equal("x", "y")]);
        assert!(of_a.iter().all(|at| directory.find(std::slice::from_ref(&either)).contains(at)));
        assert_eq!(directory.find(&[either, Matcher::equal(METRIC_NAME, "a")]), of_a, "the narrowest matcher counts");
    }

    #[test]
    fn text_round_trip_and_damage() {
        let directory = directory(&[("a\"b", 600), ("c", 9000)]);
        let text = directory.to_json();
        assert_eq!(Directory::parse(&text, 9600).expect("own text"), directory);
        assert_eq!(Directory::parse("[]", 0).expect("no rows"), Directory::default());
        for (text, rows) in
            [("[]", 1), ("{", 1), (r#"[["a",1,"0","0"]]"#, 9), (r#"[["a",0,"x","0"]]"#, 9), (&text, 9), (&text, u64::MAX)]
        {
            assert!(Directory::parse(text, rows).is_err(), "{text} with {rows} rows");
        }
        assert!(Directory::parse(r#"[["b",0,"0","0"],["a",1,"0","0"]]"#, 9).is_err());
    }
}
