//! Traces of other projects: each fixture is stored, and must be found and read as it says, in memory and from files.

mod jaeger_model;
mod otlp;
mod queries;
mod query_api;
mod stand;
mod thrift;
mod zipkin;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// What holds and what does not.
#[derive(Debug, Default)]
pub struct Checks {
    pub passed: usize,
    pub failures: Vec<String>,
}

impl Checks {
    /// `wrong` says why an expectation does not hold.
    fn add(&mut self, what: &str, wrong: Option<String>) {
        match wrong {
            None => self.passed += 1,
            Some(wrong) => self.failures.push(format!(" {what}: {wrong}")),
        }
    }

    fn equal(&mut self, what: &str, found: &Value, expect: &Value) {
        self.add(what, (found != expect).then(|| difference(found, expect, String::new())));
    }
}

/// The first place where two values differ.
fn difference(found: &Value, expect: &Value, path: String) -> String {
    match (found, expect) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            for key in keys {
                let null = Value::Null;
                let (left, right) = (left.get(key).unwrap_or(&null), right.get(key).unwrap_or(&null));
                if left != right {
                    return difference(left, right, format!("{path}.{key}"));
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let differs = left.iter().zip(right).enumerate().find(|(_, (left, right))| left != right);
            if let Some((at, (left, right))) = differs {
                return difference(left, right, format!("{path}[{at}]"));
            }
        }
        _ => {}
    }
    let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
    format!("{path} is {}, not {}", short(found), short(expect))
}

/// The fixtures of the shared data folder.
pub fn files(shared: &Path) -> Vec<PathBuf> {
    let events = shared.join("events");
    let mut files = Vec::new();
    for folder in ["jaeger/integration", "jaeger/integration/traces", "jaeger/query-api", "zipkin"] {
        files.extend(json_files(&events.join(folder)));
    }
    files.extend([events.join("otlp/trace.json"), events.join("tempo/vulture-trace.json")]);
    let smoke = json_files(&events.join("otlp/hyperdx-smoke"));
    files.extend(smoke.into_iter().filter(|path| name_of(path).starts_with("traces__")));
    files
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[expect(clippy::disallowed_methods, reason = "fixtures lie outside any data directory")]
fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Runs one fixture; what it is its name, its folder and its first field tell.
pub fn run(path: &Path) -> Checks {
    let mut checks = Checks::default();
    if let Err(wrong) = run_into(path, &mut checks) {
        checks.add("the fixture", Some(wrong));
    }
    checks
}

fn run_into(path: &Path, checks: &mut Checks) -> Result<(), String> {
    let (bytes, name) = (read(path)?, name_of(path));
    let value = json(&bytes)?;
    if path.parent().is_some_and(|folder| folder.ends_with("zipkin")) {
        return zipkin::run(&bytes, &value, checks);
    }
    if name.starts_with("queries") {
        return queries::run(&value, &path.with_file_name("traces"), checks);
    }
    if value.get("resourceSpans").is_some() {
        return otlp::run(&bytes, checks);
    }
    match name.as_str() {
        "otlp2jaeger-out" => query_api::transformed(&read(&path.with_file_name("otlp2jaeger-in.json"))?, &value, checks),
        "apiv3_FindTraces" | "apiv3_GetTrace" => query_api::traces(&value, checks),
        "apiv3_FindTraceSummaries" => query_api::summaries(&value, checks),
        "apiv3_GetServices" | "apiv3_GetOperations" => query_api::names(&value, checks),
        _ if value.get("spans").is_some() => jaeger_model::run(&value, checks),
        _ => Err("it is none of the kinds that are known: OTLP, Zipkin, Jaeger's model, queries or answers".to_owned()),
    }
}
