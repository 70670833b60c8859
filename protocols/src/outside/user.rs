//! Users that executables run as.

use std::{fmt, fs, str::FromStr};

/// A user of this host, with its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemUser {
    /// Number of the user.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
}

/// `UID:GID`, or a name in `/etc/passwd`.
impl FromStr for SystemUser {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = |uid: &str, gid: &str| Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? });
        if let Some((uid, gid)) = text.split_once(':') {
            return numbers(uid, gid).ok_or_else(|| format!("{text:?} is not UID:GID, for instance 65534:65534"));
        }
        let known =
            fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd cannot be read ({error})"))?;
        // passwd(5): name:password:UID:GID:...
        let found = known.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(text)).then(|| numbers(fields.nth(1)?, fields.next()?))?
        });
        found.ok_or_else(|| format!("there is no user {text:?} in /etc/passwd; write UID:GID"))
    }
}

impl fmt::Display for SystemUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_names_that_are_known() {
        let user = |text: &str| text.parse::<SystemUser>();
        assert_eq!(user("7:8").unwrap(), SystemUser { uid: 7, gid: 8 });
        assert_eq!(user("root").unwrap().to_string(), "0:0");
        for text in ["7", "7:", ":7", "7:8:9", "nobody that there is", "x:y"] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
