//! Parameters of a request, from the query string and from a form: names may repeat.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use br_std::{Error, Nanos, Result, duration};
use std::time::Duration;

use crate::error::{PrometheusError, TextError};

/// A form may be this long: queries of dashboards are.
const FORM_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn parse(encoded: &str) -> Self {
        Self(form_urlencoded::parse(encoded.as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Of those that say something.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(key, _)| key.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::fix_request(format!("invalid parameter {name:?}: it is missing")))
    }

    pub(crate) fn number(&self, name: &str, default: usize) -> Result<usize> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| Error::fix_request(format!("invalid parameter {name:?}: cannot parse {text:?} as a number")))
    }

    /// How much a list may hold. More than `max` is refused: cut in silence it would read as all there is.
    pub(crate) fn limit(&self, default: usize, max: usize) -> Result<usize> {
        let limit = self.number("limit", default)?;
        if limit > max {
            return Err(Error::fix_request(format!(
                "invalid parameter \"limit\": {limit} is more than {max}, the most that is given"
            )));
        }
        Ok(limit)
    }

    /// As Prometheus and Loki take times: Unix seconds with a fraction, or RFC 3339; a whole number of 16 digits or more is nanoseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Nanos>> {
        self.get(name).map(|text| time(text).ok_or_else(|| wrong_time(name, text))).transpose()
    }

    /// The same, and relative to `now`: `-15m`, `now`, `now-1h`.
    pub(crate) fn time_or_relative(&self, name: &str, now: Nanos) -> Result<Option<Nanos>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let relative = text.strip_prefix("now").unwrap_or(text);
        if relative.is_empty() {
            return Ok(Some(now));
        }
        if let Some(back) = relative.strip_prefix('-').and_then(|back| duration::parse(back).ok()) {
            return Ok(Some(now - back));
        }
        time(text).map(Some).ok_or_else(|| wrong_time(name, text))
    }

    /// Seconds with a fraction, or a duration such as `1m30s`.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().map(Duration::try_from_secs_f64);
        let parsed = match seconds {
            Some(Ok(duration)) => Some(duration),
            Some(Err(_)) => None,
            None => duration::parse(text).ok(),
        };
        let wrong = || Error::fix_request(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid duration"));
        parsed.map(Some).ok_or_else(wrong)
    }
}

fn wrong_time(name: &str, text: &str) -> Error {
    let is_far = text.parse().is_ok_and(f64::is_finite);
    let why = if is_far { ": it lies outside of the years 1677 to 2262" } else { "" };
    Error::fix_request(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp{why}"))
}

pub(crate) fn time(text: &str) -> Option<Nanos> {
    if let Ok(whole) = text.parse::<i64>() {
        // Nanoseconds of any time after 1970-04 have 16 digits; seconds have them only after the year 31 million.
        let is_nanos = whole.unsigned_abs() >= 1_000_000_000_000_000;
        return if is_nanos { Some(Nanos(whole)) } else { whole.checked_mul(1_000_000_000).map(Nanos) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds.abs() < 9.2e9).then(|| Nanos((seconds * 1e3).round() as i64 * 1_000_000));
    }
    if is_of_far_year(text) {
        return Some(if text.starts_with('-') { Nanos::MIN } else { Nanos::MAX });
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(timestamp.as_nanosecond()).ok().map(Nanos)
}

/// As clients of Prometheus write the first and the last time that they know, which stand for no bound.
fn is_of_far_year(text: &str) -> bool {
    let Some((year, rest)) = text.trim_start_matches(['-', '+']).split_once('-') else { return false };
    let is_year = year.len() > 4 && year.bytes().all(|byte| byte.is_ascii_digit());
    is_year && format!("2000-{rest}").parse::<jiff::Timestamp>().is_ok()
}

/// Axum's extractor: query string first, then the form.
impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Response> {
        let mut params = Self::parse(request.uri().query().unwrap_or(""));
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if matches!(*request.method(), Method::POST | Method::PUT)
            && content_type.starts_with("application/x-www-form-urlencoded")
        {
            let is_loki = request.uri().path().starts_with("/loki");
            let body = to_bytes(request.into_body(), FORM_BYTES_MAX).await.map_err(|error| {
                let error =
                    Error::fix_request(format!("the form cannot be read, or is longer than {FORM_BYTES_MAX} bytes: {error}"));
                if is_loki { TextError(error).into_response() } else { PrometheusError::from(error).into_response() }
            })?;
            params.0.extend(form_urlencoded::parse(&body).into_owned());
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expect) in [
            ("1435781430", Some(1_435_781_430_000)),
            ("9223372036", Some(9_223_372_036_000)),
            ("253402300800", None),
            ("-253402300800", None),
            ("1435781430.781", Some(1_435_781_430_781)),
            ("1435781430781000000", Some(1_435_781_430_781)),
            ("2015-07-01T20:10:30.781Z", Some(1_435_781_430_781)),
            ("-1", Some(-1000)),
            ("-292273086-05-16T16:47:06Z", Some(Nanos::MIN.as_millis())),
            ("292277025-08-18T07:12:54.999999999Z", Some(Nanos::MAX.as_millis())),
            ("yesterday", None),
            ("12345-yesterday", None),
            ("12345-nonsenseTxZ", None),
            ("1e300", None),
            ("NaN", None),
        ] {
            assert_eq!(time(text).map(Nanos::as_millis), expect, "{text}");
        }
    }

    #[test]
    fn relative_times_and_durations() {
        let params = Params::parse("a=-15m&b=now-1h&c=now&d=1.5&e=5m&f=x&g=-1&match[]=a&match[]=b");
        let now = Nanos::from_secs(10_000);
        let at = |name| params.time_or_relative(name, now).expect("valid").map(Nanos::as_secs);
        assert_eq!((at("a"), at("b"), at("c"), at("nothing")), (Some(9100), Some(6400), Some(10_000), None));
        assert_eq!(params.duration("d").expect("seconds"), Some(Duration::from_millis(1500)));
        assert_eq!(params.duration("e").expect("duration"), Some(Duration::from_mins(5)));
        assert!(params.duration("f").is_err() && params.duration("g").is_err());
        assert_eq!(Params::parse("limit=7").limit(1, 10).expect("within"), 7);
        assert!(Params::parse("limit=11").limit(1, 10).is_err());
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
    }
}
