//! Spans of time as they are typed: `2s`, `250ms`, `1500` (milliseconds), `1m`, `2h`.

use std::time::Duration;

/// Longer than anything here waits, and short enough that no sum overflows: a day.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads a span of at least a millisecond and at most a day.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    let span = Duration::try_from_secs_f64(number * seconds).map_err(|_| expected())?;
    if span < Duration::from_millis(1) || span > LONGEST { Err(expected()) } else { Ok(span) }
}

fn expected() -> String {
    "expected a time such as 2s, 250ms, 1500 (milliseconds), 1m or 2h, from 1ms to 24 hours".to_owned()
}

/// A span for people: two or three digits and a unit.
pub(crate) fn format(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    match seconds {
        _ if seconds >= 86_400.0 => format!("{:.1} d", seconds / 86_400.0),
        _ if seconds >= 3600.0 => format!("{:.1} h", seconds / 3600.0),
        _ if seconds >= 60.0 => format!("{:.1} min", seconds / 60.0),
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 0.001 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_and_without_a_unit() {
        let cases =
            [("2s", 2000), ("250ms", 250), ("1500", 1500), ("1m", 60_000), ("0.5s", 500), ("2h", 7_200_000)];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "25h", "0", "0.1ms", "25000m", "1.2.3s", "1 s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_shown_with_a_fitting_unit() {
        let cases = [(30, "30 µs"), (1_500, "1.50 ms"), (2_000_000, "2.00 s"), (90_000_000, "1.5 min")];
        for (microseconds, text) in cases {
            assert_eq!(format(Duration::from_micros(microseconds)), text);
        }
    }
}
