//! The time of day, and how it is written: as RFC 3339 has it, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Milliseconds since 1970-01-01T00:00:00Z; 0 if the clock stands before that.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Days in 400 years of the Gregorian calendar, after which it repeats itself.
const ERA_DAYS: u64 = 146_097;

/// For instance "2026-11-28T09:30:00.125Z".
pub(super) fn in_words(ms: u64) -> String {
    // Years begin in March here, so that the day that comes and goes is their last.
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = ms / DAY_MS + 719_468;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (400 * era + year, month + 3) } else { (400 * era + year + 1, month - 9) };
    let rest = ms % DAY_MS;
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// A moment as it is typed: RFC 3339 in UTC ("2026-11-28T09:30:00Z"), or how long ago it was ("15m").
pub(super) fn moment(typed: &str) -> Result<Timestamp, String> {
    let ms = match typed.strip_suffix(['Z', 'z']) {
        Some(stamp) => in_utc(stamp),
        None => ago(typed).ok().and_then(|time| now_ms().checked_sub(u64::try_from(time.as_millis()).ok()?)),
    };
    ms.map(Timestamp).ok_or_else(|| {
        "expected a time in UTC, for instance 2026-11-28T09:30:00Z, or how long ago: 90s, 15m, 12h or 7d"
            .to_owned()
    })
}

/// Milliseconds of "YYYY-MM-DDThh:mm:ss", with a fraction or without.
fn in_utc(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.split_once(['T', 't', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let numbers = |text: &str, separator: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text
            .split(separator)
            .map(|part| part.bytes().all(|digit| digit.is_ascii_digit()).then(|| part.parse().ok())?)
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let is_digits = fraction.bytes().all(|digit| digit.is_ascii_digit());
    let is_time = hour < 24 && minute < 60 && second < 60 && is_digits;
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_time || !is_date {
        return None;
    }
    let millis = format!("{fraction:0<3}")[..3].parse::<u64>().ok()?;
    // Years begin in March, as below.
    let (year_in_march, month_in_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year_in_march + year_in_march / 4 - year_in_march / 100
        + year_in_march / 400
        + (153 * month_in_march + 2) / 5
        + day
        - 1
        - 719_468;
    let ms = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    // A day that its month does not have comes back as another one.
    in_words(ms).starts_with(&format!("{year:04}-{month:02}-{day:02}")).then_some(ms)
}

/// A length of time as it is typed: a whole number of seconds, or one with a unit, as in "500ms", "90s", "15m", "12h" or "7d".
pub(super) fn ago(typed: &str) -> Result<Duration, String> {
    let digits = typed.len() - typed.trim_start_matches(|at: char| at.is_ascii_digit()).len();
    let (number, unit) = typed.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let millis =
        number.parse::<u64>().ok().filter(|_| millis > 0).and_then(|number| number.checked_mul(millis));
    millis.map(Duration::from_millis).ok_or_else(|| {
        "expected a number of seconds, or one with a unit: for instance 500ms, 90s, 15m, 12h or 7d".to_owned()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_in_utc_or_so_long_ago() {
        let of = |typed: &str| moment(typed).map(|time| time.0).ok();
        assert_eq!(of("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(of("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(of("2000-02-29 00:00:00.5Z"), Some(951_782_400_500));
        for ms in [951_868_799_999, 951_868_800_000, 1_700_000_000_123, 4_107_542_400_000] {
            assert_eq!(of(&in_words(ms)), Some(ms), "as it is written");
        }
        for typed in [
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14",
            "Z",
            "+1-1-1T0:0:0Z",
        ] {
            assert_eq!(of(typed), None, "{typed}");
        }
        let hour_ago = of("1h").unwrap();
        assert!((now_ms() - 3_600_000).abs_diff(hour_ago) < 60_000);
    }

    #[test]
    fn a_length_of_time_has_a_unit_or_is_seconds() {
        let seconds = |typed| ago(typed).map(|time| time.as_secs()).ok();
        assert_eq!([seconds("0"), seconds("90"), seconds("90s")], [Some(0), Some(90), Some(90)]);
        assert_eq!([seconds("15m"), seconds("2h"), seconds("7d")], [900, 7_200, 604_800].map(Some));
        for typed in ["", "s", "-1", "1.5h", "1y", "5 m", "99999999999999999999", "999999999999999999d"] {
            assert_eq!(seconds(typed), None, "{typed}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let check = |ms: u64, expect: &str| assert_eq!(in_words(ms), expect);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_799_999, "2000-02-29T23:59:59.999Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_700_000_000_000, "2023-11-14T22:13:20.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        assert!(in_words(u64::MAX).ends_with('Z'), "whatever a message says");
    }
}
