//! Bodies of `/metrics`: those of the OpenMetrics project with a verdict each, and whole ones that must be read to the end.

use br_wire::exposition::{self, Format};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A case of the OpenMetrics project: `test.json` beside the body that it names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    file: PathBuf,
    should_parse: bool,
}

/// What came of one body: what was found in it, or what is wrong.
pub type Outcome = Result<String, String>;

/// The cases and bodies of the shared data folder.
pub fn files(shared: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = entries(&shared.join("metrics/openmetrics/tests/testdata/parsers"))
        .into_iter()
        .map(|folder| folder.join("test.json"))
        .filter(|path| path.exists())
        .collect();
    let bodies = entries(&shared.join("metrics/prometheus/model/textparse/testdata"));
    files.extend(bodies.into_iter().filter(|path| path.extension().is_some_and(|end| end == "txt")));
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Runs a `test.json`, the folder or the body of one, or a body without a verdict, which must be read whole.
pub fn run(path: &Path) -> Outcome {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let description = folder.join("test.json");
    if !description.exists() {
        return body(path);
    }
    let case: Case =
        serde_json::from_slice(&read(&description)?).map_err(|error| format!("{}: {error}", description.display()))?;
    let outcome = exposition::parse_openmetrics_strict(&read(&folder.join(&case.file))?);
    match (outcome, case.should_parse) {
        (Ok(_), true) => Ok(String::new()),
        (Err(error), false) => Ok(format!("refused: {error}")),
        (Ok(_), false) => Err("was read, must be refused".to_owned()),
        (Err(error), true) => Err(format!("must be read: {error}")),
    }
}

/// Every line with a sample must yield one, and every line with a type a family.
fn body(path: &Path) -> Outcome {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let is_openmetrics = text.trim_end().ends_with("# EOF");
    let format = if is_openmetrics { Format::OpenMetrics } else { Format::Text };
    let batch = exposition::parse_format(&bytes, format).map_err(|error| error.to_string())?;
    let samples = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    let types: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next()).collect();
    let families: BTreeSet<&str> = batch.metadata.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(missing) = types.iter().find(|name| !families.contains(*name)) {
        return Err(format!("the family {missing} is missing"));
    }
    if batch.sample_count() != samples {
        return Err(format!("{samples} lines with samples, {} samples read", batch.sample_count()));
    }
    let series: BTreeSet<u128> = batch.series.iter().map(|series| series.labels.hash128()).collect();
    Ok(format!("{} families, {} series, {samples} samples", families.len(), series.len()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    #[expect(clippy::disallowed_methods, reason = "scripts lie outside any data directory")]
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
