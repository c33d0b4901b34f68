//! TraceQL: parser and span matching over the storage seam.
