//! Words that operators give to hosts: names of racks, keys and values of labels.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest word, in bytes.
pub const WORD_BYTES_MAX: usize = 63;

/// A word: letters, digits, `-`, `_`, `.` and `/`, so that a list of them can be written in one argument.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(String);

/// A label of a host, as it is written: `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What it is about.
    pub key: Word,
    /// What the host is there.
    pub value: Word,
}

impl Word {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no word of 1 to {WORD_BYTES_MAX} letters, digits, -, _, . and /"))
    }
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no label; write KEY=VALUE"))?;
        Ok(Self { key: key.parse()?, value: value.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fit_into_a_list() {
        for word in ["a", "rack-7", "Hall_B/3.2", &"x".repeat(WORD_BYTES_MAX)] {
            assert_eq!(word.parse::<Word>().unwrap().as_str(), word);
        }
        for word in ["", "a b", "a,b", "a=b", "25%", "ü", &"x".repeat(WORD_BYTES_MAX + 1)] {
            assert!(word.parse::<Word>().is_err(), "{word}");
        }
        let label: Label = "gpu=a100".parse().unwrap();
        assert_eq!((label.key.as_str(), label.value.as_str()), ("gpu", "a100"));
        for text in ["gpu", "=a", "gpu=", "gpu=a=b"] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }
}
