//! Licences and bans of the dependencies, as deny.toml has them.
//!
//! cargo-deny does this and the advisories where it is installed; without it the licences and bans are still held, by what
//! `cargo metadata` says.

use crate::shell;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    name: String,
    #[serde(default)]
    reason: String,
    /// Allowed once, not twice.
    #[serde(default, rename = "deny-multiple-versions")]
    multiple: bool,
}

pub fn run() -> Result<()> {
    if shell::has("cargo-deny") {
        return shell::cargo(&["deny", "check", "bans", "licenses", "sources"]);
    }
    println!("cargo-deny is not installed (cargo install cargo-deny): advisories are not checked here");
    let text = std::fs::read_to_string(shell::root().join("deny.toml"))?;
    let deny: Deny = toml::from_str(&text).context("deny.toml")?;
    let metadata = shell::output(
        "cargo",
        &["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let allowed: BTreeSet<&str> = deny.licenses.allow.iter().map(String::as_str).collect();
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    let mut complaints = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        *versions.entry(name).or_default() += 1;
        let licence = package["license"].as_str().unwrap_or("none");
        if !permits(licence, &allowed) {
            complaints.push(format!("{name} is under {licence}, which deny.toml does not allow"));
        }
    }
    for ban in &deny.bans.deny {
        let count = versions.get(ban.name.as_str()).copied().unwrap_or(0);
        if count > usize::from(ban.multiple) {
            complaints.push(format!("{} is in the tree {count} times: {}", ban.name, ban.reason));
        }
    }
    for complaint in &complaints {
        println!("deny: {complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} dependencies break deny.toml", complaints.len());
    }
    println!("licences and bans hold for {} packages", versions.len());
    Ok(())
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is the old spelling of `OR`.
fn permits(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // Without nesting deeper than one level, as on the registry: every AND part needs one allowed alternative.
    if expression.contains('(') {
        return flat.split(" AND ").all(|part| part.split(" OR ").any(|name| allowed.contains(name.trim())));
    }
    flat.split(" OR ").any(|part| part.split(" AND ").all(|name| allowed.contains(name.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_licence_expressions() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for (expression, expect) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("MIT AND GPL-3.0", false),
        ] {
            assert_eq!(permits(expression, &allowed), expect, "{expression}");
        }
    }
}
