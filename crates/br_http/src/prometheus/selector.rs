//! `match[]`: series selectors as parameters.

use crate::params::Params;
use br_promql::{Expr, ExprKind, ParseErrors};
use br_std::{Error, Nanos, Result};
use br_storage::SeriesQuery;
use tokio::runtime::{Handle, RuntimeFlavor};

/// The queries that `match[]`, `start` and `end` stand for. Without a selector: all series, where that is allowed.
pub(super) fn queries(params: &Params, is_required: bool) -> Result<Vec<SeriesQuery>> {
    let from_ms = params.time("start")?.map_or(i64::MIN, Nanos::as_millis);
    let to_ms = params.time("end")?.map_or(i64::MAX, Nanos::as_millis);
    if from_ms > to_ms {
        return Err(Error::fix_request("invalid parameter \"end\": it is before the start"));
    }
    let mut queries = Vec::new();
    for text in params.all("match[]") {
        queries.push(SeriesQuery { matchers: matchers("match[]", text)?, from_ms, to_ms });
    }
    if queries.is_empty() {
        if is_required {
            return Err(Error::fix_request("no match[] parameter provided"));
        }
        queries.push(SeriesQuery { matchers: Vec::new(), from_ms, to_ms });
    }
    Ok(queries)
}

/// A text that is longer is read where it holds up nobody's sockets.
const QUICK_BYTES_MAX: usize = 16 << 10;

pub(super) fn parse(text: &str) -> std::result::Result<Expr, ParseErrors> {
    let is_long = text.len() > QUICK_BYTES_MAX;
    if is_long && Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread) {
        tokio::task::block_in_place(|| br_promql::parse(text))
    } else {
        br_promql::parse(text)
    }
}

/// The matchers of a selector that came as a parameter.
pub(super) fn matchers(parameter: &str, text: &str) -> Result<Vec<br_storage::Matcher>> {
    let wrong = |message: String| Error::fix_request(format!("invalid parameter {parameter:?}: {message}"));
    let expr = parse(text).map_err(|errors| wrong(errors.to_string()))?;
    match expr.without_parens().kind {
        ExprKind::Vector(ref selector) if selector.offset.is_none() && selector.at.is_none() => Ok(selector.matchers.clone()),
        ExprKind::Vector(_) => Err(wrong(format!("{text:?}: offset and @ have no meaning here"))),
        _ => Err(wrong(format!("{text:?} is not a series selector"))),
    }
}
