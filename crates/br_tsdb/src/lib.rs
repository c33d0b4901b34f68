//! The metrics store: head, encoders, Parquet blocks, index.
