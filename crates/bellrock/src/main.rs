//! The observability platform for Python services in one binary.

fn main() {}
