//! Bytes to model: every protocol that Bellrock speaks, decoded and encoded without I/O.
