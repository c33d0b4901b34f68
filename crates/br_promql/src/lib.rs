//! PromQL: parser with spans and evaluator over the storage seam.
