//! The journal: the only thing between accepting and storing.
