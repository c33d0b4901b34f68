//! The web pages, embedded.
