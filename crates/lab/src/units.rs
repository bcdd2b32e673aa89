//! Quantities as people write them on a command line: `25ms`, `1%`, `125mbit`.

use std::time::Duration;

/// `25ms`, `500us`, `1s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a time; write it like 25ms, 500us or 1s");
    let (number, unit) = split(text).ok_or_else(expected)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return Err(expected()),
    };
    if seconds > 60.0 {
        return Err(format!("{text} is more than a minute"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `1%` or `0.5%`, as a fraction from 0 to 1.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    match split(text) {
        Some((number, "%")) if number <= 100.0 => Ok(number / 100.0),
        _ => Err(format!(
            "{text:?} is not a percentage; write it like 1% or 0.5%"
        )),
    }
}

/// `125mbit`, `10gbit`, `800kbit`: decimal, in bits a second.
pub(crate) fn bit_rate(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?} is not a rate; write it like 125mbit, 10gbit or 800kbit");
    let (number, unit) = split(text).ok_or_else(expected)?;
    let factor = match unit {
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return Err(expected()),
    };
    let rate = (number * factor) as u64;
    if rate < 100_000 {
        return Err(format!("{text} is less than 100kbit"));
    }
    Ok(rate)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("25ms"), Ok(Duration::from_millis(25)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        for wrong in ["25", "ms", "-1ms", "1m", "", "1e3s", "1.2.3s", "90s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(percent("1%"), Ok(0.01));
        assert_eq!(percent("0.5%"), Ok(0.005));
        for wrong in ["1", "%", "101%", "-1%", "x%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(bit_rate("125mbit"), Ok(125_000_000));
        assert_eq!(bit_rate("10gbit"), Ok(10_000_000_000));
        for wrong in ["125", "125m", "mbit", "1kbit"] {
            assert!(bit_rate(wrong).is_err(), "{wrong}");
        }
    }
}
