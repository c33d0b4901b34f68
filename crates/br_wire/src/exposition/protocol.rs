//! What a scrape asks for: the protocols that Prometheus' configuration knows, and the `Accept` header made of them.

use super::Format;

/// A version of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Proto,
    OpenMetrics001,
    OpenMetrics100,
    Text004,
    Text100,
}

impl Protocol {
    pub const ALL: [Self; 5] = [Self::Proto, Self::OpenMetrics001, Self::OpenMetrics100, Self::Text004, Self::Text100];

    /// What is asked for where a configuration says nothing, best first. Only protobuf carries native histograms.
    pub fn usual(native_histograms: bool) -> Vec<Self> {
        let texts = [Self::OpenMetrics100, Self::OpenMetrics001, Self::Text100, Self::Text004];
        native_histograms.then_some(Self::Proto).into_iter().chain(texts).collect()
    }

    /// The name in a Prometheus configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proto => "PrometheusProto",
            Self::OpenMetrics001 => "OpenMetricsText0.0.1",
            Self::OpenMetrics100 => "OpenMetricsText1.0.0",
            Self::Text004 => "PrometheusText0.0.4",
            Self::Text100 => "PrometheusText1.0.0",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    pub fn format(self) -> Format {
        match self {
            Self::Proto => Format::Protobuf,
            Self::OpenMetrics001 | Self::OpenMetrics100 => Format::OpenMetrics,
            Self::Text004 | Self::Text100 => Format::Text,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Proto => "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            Self::OpenMetrics001 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetrics100 => "application/openmetrics-text;version=1.0.0",
            Self::Text004 => "text/plain;version=0.0.4",
            Self::Text100 => "text/plain;version=1.0.0",
        }
    }

    /// The `Accept` header that asks for `protocols`, best first, with names escaped by `escaping` where they can be quoted.
    pub fn accept(protocols: &[Self], escaping: &str) -> String {
        let mut weight = Self::ALL.len() + 1;
        let mut parts = Vec::new();
        for protocol in protocols {
            weight -= 1;
            let quotes = matches!(protocol, Self::OpenMetrics100 | Self::Text100 | Self::Proto);
            let escaping = if quotes { format!(";escaping={escaping}") } else { String::new() };
            parts.push(format!("{}{escaping};q=0.{weight}", protocol.media_type()));
        }
        parts.push(format!("*/*;q=0.{}", weight.saturating_sub(1)));
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn asks_for_the_best_first() {
        assert_eq!(
            Protocol::accept(&[Protocol::Text100, Protocol::Text004], "underscores"),
            "text/plain;version=1.0.0;escaping=underscores;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
        );
        let all = Protocol::accept(&Protocol::ALL, "allow-utf-8");
        assert!(all.ends_with("q=0.1,*/*;q=0.0"), "{all}");
        assert!(Protocol::ALL.iter().all(|protocol| Protocol::from_name(protocol.name()) == Some(*protocol)));
    }
}
