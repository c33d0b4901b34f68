//! `external_labels`: what tells this server's series from those of others, where they meet.

use crate::app::App;
use br_model::{Labels, TenantId};
use br_storage::{MatchOp, Matcher};

/// Those of the configuration, which is one tenant's.
pub(super) fn labels(app: &App, tenant: TenantId) -> Labels {
    if app.has_alerts(tenant) { app.external_labels.clone() } else { Labels::empty() }
}

/// A series as others see it: its own labels win.
pub(super) fn with(labels: Labels, external: &Labels) -> Labels {
    if external.iter().all(|(name, _)| labels.get(name).is_some()) {
        return labels;
    }
    let added = external.iter().filter(|(name, _)| labels.get(name).is_none());
    Labels::from_pairs(labels.iter().chain(added))
}

/// A reader that asks for a label with the value that all series get means those that have none of their own.
/// Source: Prometheus' `storage/remote/read_handler.go`.
pub(super) fn without(matcher: Matcher, external: &Labels) -> Matcher {
    let is_external = matcher.op == MatchOp::Equal && external.get(&matcher.name) == Some(matcher.value.as_str());
    if is_external { Matcher::equal(matcher.name, "") } else { matcher }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_labels_win() {
        let external = Labels::from_pairs([("region", "eu"), ("replica", "a")]);
        let seen = |pairs: &[(&str, &str)]| with(Labels::from_pairs(pairs.iter().copied()), &external);
        let expect = Labels::from_pairs([("job", "x"), ("region", "us"), ("replica", "a")]);
        assert_eq!(seen(&[("job", "x"), ("region", "us")]), expect);
        let matcher = |value: &str| without(Matcher::equal("region", value), &external).value;
        assert_eq!((matcher("eu").as_str(), matcher("us").as_str()), ("", "us"));
    }
}
