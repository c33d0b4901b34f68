//! The HTTP face: Prometheus, Loki, Tempo and native APIs over the query door.
