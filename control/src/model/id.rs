//! Ids of transfers: UUIDs of version 7 (RFC 9562 §5.7), so that their order is the order of submission.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// The id of a transfer. Its text form is 36 characters of lower-case hex and hyphens, and sorts as the id does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransferId(Uuid);

impl TransferId {
    /// The id that follows `last` at `now`: greater than `last` even when the clock has not moved, or has moved back.
    pub fn following(last: Option<Self>, now: Timestamp, random: u64) -> Self {
        let (mut millis, mut counter) = (now.as_millis(), 0u16);
        if let Some((last_millis, last_counter)) = last.map(Self::parts)
            && last_millis >= millis
        {
            (millis, counter) =
                if last_counter < COUNTER_MAX { (last_millis, last_counter + 1) } else { (last_millis + 1, 0) };
        }
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&counter.to_be_bytes());
        tail[2..].copy_from_slice(&random.to_be_bytes());
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// No transfer's id.
    pub const fn nil() -> Self {
        Self(Uuid::nil())
    }

    /// An id of its 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    /// The UUID.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    /// Milliseconds of the time stamp, and the counter that follows them.
    fn parts(self) -> (u64, u16) {
        let bits = self.0.as_u128();
        ((bits >> 80) as u64, ((bits >> 64) as u16) & COUNTER_MAX)
    }
}

/// The 12 bits behind the version count ids of one millisecond (RFC 9562 §6.2, method 1).
const COUNTER_MAX: u16 = 0xfff;

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for TransferId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the spelling that is handed out: an id has one name, in paths and in keys.
        let uuid = Uuid::try_parse(text).map_err(|_| "not a UUID")?;
        if uuid.hyphenated().to_string() == text { Ok(Self(uuid)) } else { Err("not the spelling of an id") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let mut last = None;
        for (step, now) in [5u64, 5, 5, 4, 0, 6, 6].into_iter().cycle().take(20_000).enumerate() {
            let id = TransferId::following(last, Timestamp::from_millis(now), u64::MAX - step as u64);
            assert!(last < Some(id));
            assert!(last.is_none_or(|last: TransferId| last.to_string() < id.to_string()));
            assert_eq!(id.as_uuid().get_version_num(), 7);
            last = Some(id);
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        // With a letter in it, which has two cases.
        let id = TransferId::following(None, Timestamp::from_millis(1 << 40), 0xa);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [id.to_string().to_uppercase(), id.as_uuid().simple().to_string(), "x".into(), String::new()] {
            assert!(text.parse::<TransferId>().is_err(), "{text}");
        }
    }
}
