//! Receivers: OTLP, remote write, Loki, Sentry and scraping, through the journal into the stores.
