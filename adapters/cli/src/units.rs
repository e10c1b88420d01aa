//! Parsers for option values.

use std::time::Duration;

/// The longest period that a session accepts.
const LONGEST: f64 = 365.0 * 86_400.0;

/// Parses seconds, with fractions.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds from 0 to 31536000 (365 days), such as 5 or 0.25".to_owned()),
    }
}

/// Parses seconds, with fractions; at least a millisecond.
pub fn period(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Ok(period) if period >= Duration::from_millis(1) => Ok(period),
        _ => Err("expected seconds from 0.001 to 31536000 (365 days), such as 5 or 0.25".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_seconds() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(period("0.001"), Ok(Duration::from_millis(1)));
        for bad in ["", "x", "-1", "nan", "inf", "1e300", "31536001", "5s"] {
            assert!(seconds(bad).unwrap_err().contains("from 0 to 31536000"), "{bad}");
        }
        assert!(period("0").unwrap_err().contains("from 0.001"));
        assert!(period("0.0009").is_err());
    }
}
