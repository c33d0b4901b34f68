//! The event store: logs and spans as Arrow in memory and Parquet on an object store.
