//! The one entry for people and CI: check, test, conform, bench, ui, py.

fn main() {}
