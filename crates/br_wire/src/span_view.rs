//! A span with who made it, as the encoders of whole traces take it.

use br_model::{Resource, Scope, Span};

#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    pub resource: &'a Resource,
    pub scope: &'a Scope,
    pub span: &'a Span,
}
