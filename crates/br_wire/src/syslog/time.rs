//! Times of syslog messages. Those of RFC 3164 have neither year nor zone.

use br_std::Nanos;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// What is known beside a message: when it was received, and where its sender's clock is.
pub(super) struct Clock {
    pub(super) received: Nanos,
    zone: TimeZone,
    year: i16,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Whether the IANA name of a time zone is known.
pub fn check_zone(zone: &str) -> Result<(), String> {
    TimeZone::get(zone).map(drop).map_err(|error| error.to_string())
}

impl Clock {
    pub(super) fn new(zone: &str, received: Nanos) -> Self {
        let zone = if zone.is_empty() { TimeZone::UTC } else { TimeZone::get(zone).unwrap_or(TimeZone::UTC) };
        let now = jiff::Timestamp::from_nanosecond(i128::from(received.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let year = now.to_zoned(zone.clone()).year();
        Self { received, zone, year }
    }

    fn nanos(&self, local: DateTime) -> Option<Nanos> {
        let zoned = local.to_zoned(self.zone.clone()).ok()?;
        i64::try_from(zoned.timestamp().as_nanosecond()).ok().map(Nanos)
    }

    /// RFC 3339, also without a zone.
    pub(super) fn iso(&self, text: &str) -> Option<Nanos> {
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return i64::try_from(timestamp.as_nanosecond()).ok().map(Nanos);
        }
        text.parse().ok().filter(|_| text.contains('T')).and_then(|local| self.nanos(local))
    }

    /// `Nov 27 03:03:03`, with a year or parts of a second where a dialect has them; and what stands behind it.
    pub(super) fn month_first<'t>(&self, text: &'t str) -> Option<(Nanos, &'t str)> {
        // Cisco marks a clock that is not set.
        let text = text.trim_start_matches(['*', '.']);
        let month = MONTHS.iter().position(|month| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(month)))?;
        let month = i8::try_from(month + 1).ok()?;
        let (day, rest) = number(text.get(3..)?.strip_prefix(' ')?.trim_start_matches(' '), 2)?;
        let rest = rest.strip_prefix(' ')?;
        let (year, rest) = match number(rest, 4) {
            Some((year, rest)) if rest.starts_with(' ') => (i16::try_from(year).ok(), &rest[1..]),
            _ => (None, rest),
        };
        let (time, rest) = time_of_day(rest)?;
        let day = i8::try_from(day).ok()?;
        let at = |year: i16| {
            let date = Date::new(year, month, day).ok()?;
            self.nanos(DateTime::from_parts(date, time))
        };
        let nanos = if let Some(year) = year {
            at(year)?
        } else {
            let years = [self.year.checked_sub(1)?, self.year, self.year.checked_add(1)?];
            years.into_iter().filter_map(at).min_by_key(|time| time.0.abs_diff(self.received.0))?
        };
        Some((nanos, rest.strip_prefix(':').unwrap_or(rest)))
    }
}

/// Digits at the beginning, `digits_max` at the most.
fn number(text: &str, digits_max: usize) -> Option<(u32, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > digits_max {
        return None;
    }
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

fn time_of_day(text: &str) -> Option<(Time, &str)> {
    let (hour, rest) = number(text, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, mut rest) = number(rest.strip_prefix(':')?, 2)?;
    let mut nanos = 0;
    if let Some(behind) = rest.strip_prefix('.')
        && let Some((fraction, behind_fraction)) = number(behind, 9)
    {
        let digits = behind.len() - behind_fraction.len();
        nanos = fraction * 10_u32.pow(9 - digits as u32);
        rest = behind_fraction;
    }
    let part = |number: u32| i8::try_from(number).ok();
    // A leap second is the second before.
    let time = Time::new(part(hour)?, part(minute)?, part(second.min(59))?, i32::try_from(nanos).ok()?).ok()?;
    Some((time, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Nanos {
        Nanos(i64::try_from(text.parse::<jiff::Timestamp>().expect("RFC 3339").as_nanosecond()).expect("in range"))
    }

    #[test]
    fn the_year_is_the_one_that_fits() {
        let check = |received: &str, zone: &str, text: &str, expect: &str| {
            let (found, rest) = Clock::new(zone, nanos(received)).month_first(text).expect(text);
            assert_eq!((found, rest), (nanos(expect), " host"), "{text} received {received} {zone}");
        };
        check("2026-11-27T03:04:00Z", "", "Nov 27 03:03:03 host", "2026-11-27T03:03:03Z");
        check("2027-01-01T00:00:01Z", "", "Dec 31 23:59:59 host", "2026-12-31T23:59:59Z");
        check("2026-12-31T23:59:59Z", "", "Jan  1 00:00:02 host", "2027-01-01T00:00:02Z");
        check("2028-03-01T00:00:00Z", "", "Feb 29 12:00:00.25 host", "2028-02-29T12:00:00.25Z");
        check("2026-11-27T03:04:00Z", "", "*Feb  3 2025 01:02:60.123: host", "2025-02-03T01:02:59.123Z");
        check("2026-07-01T10:00:00Z", "Europe/Berlin", "Jul  1 12:00:00 host", "2026-07-01T10:00:00Z");
        let clock = Clock::new("", nanos("2026-11-27T03:04:00Z"));
        for wrong in ["Feb 30 12:00:00 x", "Feb 29 12:00:00", "Now 1 12:00:00", "Nov 1 25:00:00", "Nov", "Nov 1 é2:00:00", ""] {
            let found = clock.month_first(wrong);
            assert!(found.is_none() || wrong == "Feb 29 12:00:00", "{wrong}: {found:?}");
        }
    }

    #[test]
    fn iso() {
        let clock = Clock::new("Europe/Berlin", nanos("2026-11-27T03:04:00Z"));
        assert_eq!(clock.iso("2026-11-27T03:03:03.5+01:00"), Some(nanos("2026-11-27T02:03:03.5Z")));
        assert_eq!(clock.iso("2026-11-27T03:03:03"), Some(nanos("2026-11-27T02:03:03Z")));
        assert_eq!(clock.iso("soon").or(clock.iso("2026")).or(clock.iso("-")), None);
        assert!(check_zone("Europe/Berlin").is_ok() && check_zone("Europe/Bonn").is_err());
    }
}
