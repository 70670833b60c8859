//! What a path does to what is sent on it.

use std::{fmt, time::Duration};

/// The smallest queue in front of a bounded rate: what a sender gives away at once must find room.
pub const QUEUE_BYTES_MIN: u64 = 256 << 10;

/// What one direction of a path is like. The default does nothing to what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// From one end to the other, at least.
    pub delay: Duration,
    /// On top of that, from nothing to this much, evenly spread. It never changes the order.
    pub jitter: Duration,
    /// The share of packets that do not arrive (0 to 1).
    pub loss: f64,
    /// The share of packets that are held back and overtaken by later ones (0 to 1).
    pub reordering: f64,
    /// The share of packets that arrive twice (0 to 1).
    pub duplication: f64,
    /// Bits per second; as many as come, when absent.
    pub rate: Option<u64>,
    /// Most bytes that wait for their turn where the rate is bounded; what finds no room is dropped. When absent, what the
    /// rate carries in a round trip, and [`QUEUE_BYTES_MIN`] at least.
    pub queue_bytes_max: Option<u64>,
}

impl Conditions {
    /// Most bytes that wait for their turn.
    pub fn queue_bytes(&self) -> u64 {
        let round_trip = 2.0 * self.delay.as_secs_f64() * self.rate.unwrap_or(0) as f64 / 8.0;
        self.queue_bytes_max.unwrap_or((round_trip as u64).max(QUEUE_BYTES_MIN))
    }

    /// Whether it does nothing.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = vec![format!("{} one way", humantime::format_duration(self.delay))];
        if self.jitter > Duration::ZERO {
            words.push(format!("jitter {}", humantime::format_duration(self.jitter)));
        }
        let shares = [("loss", self.loss), ("reordering", self.reordering), ("duplication", self.duplication)];
        words.extend(
            shares.iter().filter(|(_, share)| *share > 0.0).map(|(what, share)| format!("{what} {} %", share * 100.0)),
        );
        words.extend(self.rate.map(|rate| format!("{} Mbit/s", rate as f64 / 1e6)));
        f.write_str(&words.join(", "))
    }
}

/// A share as people write it: `1%`, `0.1 %`, or `0.01`.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let (number, divisor) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().ok().map(|number| number / divisor);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is no share; write for instance 1%"))
}

/// Bits per second as tc(8) writes them: `200mbit`, `1gbit`, `500kbit`.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3)];
    let parsed = units.iter().find_map(|(unit, factor)| {
        let number = lower.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
        (number.is_finite() && number > 0.0).then_some((number * factor) as u64)
    });
    parsed.filter(|rate| *rate > 0).ok_or_else(|| format!("{text:?} is no rate; write for instance 200mbit or 1gbit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_read_as_people_write_them() {
        assert_eq!((parse_share("1%"), parse_share("0.1 %"), parse_share("0.25")), (Ok(0.01), Ok(0.001), Ok(0.25)));
        assert_eq!((parse_rate("200mbit"), parse_rate("1.5Gbit")), (Ok(200_000_000), Ok(1_500_000_000)));
        for wrong in ["", "x", "101%", "-1", "NaN"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "1", "0mbit", "-1gbit", "infgbit", "1 gib"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_queue_holds_what_the_rate_carries_in_a_round_trip() {
        let far = Conditions { delay: Duration::from_millis(25), rate: Some(1_000_000_000), ..Conditions::default() };
        assert_eq!(far.queue_bytes(), 6_250_000);
        assert_eq!(Conditions { rate: Some(1_000_000), ..far }.queue_bytes(), QUEUE_BYTES_MIN);
        assert_eq!(Conditions { queue_bytes_max: Some(1), ..far }.queue_bytes(), 1);
    }

    #[test]
    fn conditions_are_told_in_words() {
        let conditions = Conditions {
            delay: Duration::from_millis(25),
            loss: 0.01,
            rate: Some(200_000_000),
            ..Conditions::default()
        };
        assert_eq!(conditions.to_string(), "25ms one way, loss 1 %, 200 Mbit/s");
        assert!(Conditions::default().are_none() && !conditions.are_none());
    }
}
