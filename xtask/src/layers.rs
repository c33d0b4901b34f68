//! Imports go down only. The floors are in layers.toml, the imports in the manifests.

use crate::shell;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Layers {
    floor: Vec<Floor>,
    beside: BTreeMap<String, Vec<String>>,
    only: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Floor {
    name: String,
    crates: Vec<String>,
    forbidden: Vec<String>,
}

/// What each of our crates imports outside its tests, by name.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The longest chain of our own crates that is allowed.
const CHAIN_MAX: usize = 8;

pub fn run() -> Result<()> {
    let text = std::fs::read_to_string(shell::root().join("layers.toml"))?;
    let layers: Layers = toml::from_str(&text).context("layers.toml")?;
    let imports = imports()?;
    let complaints = complaints(&layers, &imports);
    for complaint in &complaints {
        println!("layers: {complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} imports break the floors of layers.toml", complaints.len());
    }
    println!("layers hold: {} crates on {} floors", imports.len(), layers.floor.len());
    Ok(())
}

fn imports() -> Result<Imports> {
    let metadata = shell::output("cargo", &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let mut imports = Imports::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let used = package["dependencies"].as_array().into_iter().flatten();
        let used = used.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let used = used.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned)).collect();
        imports.insert(name.to_owned(), used);
    }
    Ok(imports)
}

fn complaints(layers: &Layers, imports: &Imports) -> Vec<String> {
    let mut floor_of = BTreeMap::new();
    for (height, floor) in layers.floor.iter().enumerate() {
        floor_of.extend(floor.crates.iter().map(|name| (name.as_str(), height)));
    }
    let mut complaints = Vec::new();
    for (name, used) in imports {
        let Some(&height) = floor_of.get(name.as_str()) else {
            if name != "xtask" {
                complaints.push(format!("{name} stands on no floor"));
            }
            continue;
        };
        let floor = &layers.floor[height];
        for import in used {
            if let Some(&import_height) = floor_of.get(import.as_str()) {
                let beside = layers.beside.get(name).is_some_and(|named| named.contains(import));
                if import_height > height || (import_height == height && !beside) {
                    complaints.push(format!("{name} ({}) imports {import} ({})", floor.name, layers.floor[import_height].name));
                }
            }
            if let Some(path) = path_to_forbidden(import, &floor.forbidden, imports) {
                complaints.push(format!(
                    "{name} ({}) reaches {}: {name} -> {path}",
                    floor.name,
                    path.rsplit(' ').next().unwrap_or_default()
                ));
            }
            if layers.only.get(import).is_some_and(|allowed| !allowed.contains(name)) {
                complaints.push(format!("{name} imports {import}, which is for {} only", layers.only[import].join(", ")));
            }
        }
        let chain = longest_chain(name, imports);
        if chain.len() > CHAIN_MAX {
            complaints.push(format!("a chain of {} crates, {CHAIN_MAX} at most: {}", chain.len(), chain.join(" -> ")));
        }
    }
    complaints
}

/// The way from `import` to a forbidden dependency through our own crates.
fn path_to_forbidden(import: &str, forbidden: &[String], imports: &Imports) -> Option<String> {
    if forbidden.iter().any(|name| name == import) {
        return Some(import.to_owned());
    }
    let next = imports.get(import)?;
    next.iter().find_map(|next| path_to_forbidden(next, forbidden, imports)).map(|path| format!("{import} -> {path}"))
}

fn longest_chain<'a>(name: &'a str, imports: &'a Imports) -> Vec<&'a str> {
    let Some(used) = imports.get(name) else { return Vec::new() };
    let below = used.iter().map(|import| longest_chain(import, imports)).max_by_key(Vec::len).unwrap_or_default();
    [vec![name], below].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(imports: &[(&str, &[&str])]) -> Vec<String> {
        let layers = r#"
            floor = [
                { name = "low", crates = ["a", "b"], forbidden = ["tokio"] },
                { name = "high", crates = ["c"], forbidden = [] },
            ]
            only = { sqlx = ["c"] }
            beside = { b = ["a"] }
        "#;
        let imports =
            imports.iter().map(|(name, used)| ((*name).to_owned(), used.iter().map(|used| (*used).to_owned()).collect()));
        complaints(&toml::from_str(layers).expect("valid"), &imports.collect())
    }

    #[test]
    fn imports_go_down_only() {
        assert!(check(&[("a", &[]), ("b", &["a"]), ("c", &["b", "tokio", "sqlx"])]).is_empty());
        assert_eq!(check(&[("a", &["b"]), ("b", &[])]), ["a (low) imports b (low)"]);
        assert_eq!(check(&[("a", &["c"]), ("c", &[])]), ["a (low) imports c (high)"]);
        assert_eq!(check(&[("a", &["tokio"])]), ["a (low) reaches tokio: a -> tokio"]);
        assert_eq!(check(&[("b", &["sqlx"])]), ["b imports sqlx, which is for c only"]);
        assert_eq!(check(&[("d", &[])]), ["d stands on no floor"]);
    }
}
