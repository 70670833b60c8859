//! The client's options for Swift, parsed once.

use http::HeaderValue;

use super::place::is_container;
use crate::{
    CRC_BLOCK, Error, Options,
    contract::OptionSpec,
    keystone::{
        Account, AccountOptions,
        account::{self, base},
        secret::Secret,
    },
    parts::parse_part_size,
    web::settings::{self, Settings, header, invalid},
};

/// The names of all of them.
pub(super) const ALL: &[OptionSpec] = &account::with_own::<{ OWN.len() }, { account::OPTIONS.len() + OWN.len() }>(OWN);

const OWN: [OptionSpec; 9] = [
    OptionSpec {
        name: "storage_url",
        secret: false,
        help: "URL of the account, for instance https://swift.example/v1/AUTH_demo, instead of Keystone's catalogue",
    },
    OptionSpec {
        name: "temp_url_key",
        secret: true,
        help: "a key of TempURLs of the account or the container, instead of a user: requests are signed with it; needs \
               storage_url. Objects are written with one PUT then, which begins anew when it breaks",
    },
    OptionSpec {
        name: "part_size",
        secret: false,
        help: "bytes of a segment that is written, 1 MiB to 1 GiB in whole MiB, for instance 64M (default 32 MiB); doubled \
               until an object has 10,000 segments at most",
    },
    OptionSpec {
        name: "segment_container",
        secret: false,
        help: "container of the segments (default that of the object with _segments); made where it is missing",
    },
    OptionSpec { name: "content_type", secret: false, help: "Content-Type of the object that is written" },
    settings::CA,
    settings::CONNECT_TIMEOUT,
    settings::STALL_TIMEOUT,
    settings::TOTAL_TIMEOUT,
];

/// Those that say neither where secrets go nor who asks, nor where else something is written.
pub(super) const HARMLESS: &[&str] =
    &["part_size", "content_type", "connect_timeout", "stall_timeout", "total_timeout"];

/// Valid options.
#[derive(Clone, Debug)]
pub(super) struct SwiftOptions {
    pub access: Access,
    /// The account, without a slash at its end; none where the catalogue names it.
    pub storage_url: Option<String>,
    /// What was asked for; none where the default holds.
    pub part_bytes: Option<u64>,
    /// The container of segments, where it is not the usual one.
    pub segments: Option<String>,
    pub content_type: Option<HeaderValue>,
    pub settings: Settings,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// Keystone's user, whoever has a token, or nobody in particular.
    Account(Account),
    /// Whoever has this key of TempURLs.
    TempUrl(Secret),
}

impl SwiftOptions {
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let (mut account, mut settings) = (AccountOptions::default(), Settings::default());
        for (name, value) in options {
            if !account.take(name, value)? && !settings.take(name, value)? && !OWN.iter().any(|own| own.name == name) {
                return Err(invalid(format!("{name:?} is not an option of swift")));
            }
        }
        let text = |name: &str| options.get(name).map(String::as_str);
        let storage_url = text("storage_url").map(|url| base("storage_url", url)).transpose()?;
        let account = account.finish()?;
        let access = match (text("temp_url_key"), account) {
            (None, account) => Access::Account(account),
            (Some(""), _) => return Err(invalid("temp_url_key is empty; write the key, or leave it out".into())),
            (Some(key), Account::Nobody) => Access::TempUrl(Secret::new(key)),
            (Some(_), _) => {
                return Err(invalid("temp_url_key stands for a user; leave the options of Keystone out".into()));
            }
        };
        match &access {
            Access::Account(Account::Keystone(account))
                if storage_url.is_some() && account.wanted.endpoint.is_some() =>
            {
                return Err(invalid("give endpoint or storage_url, not both; they mean the same".into()));
            }
            Access::Account(Account::Keystone(_)) => (),
            _ if storage_url.is_none() => {
                return Err(invalid(
                    "it is not said where the account is; give auth_url with a user, or storage_url".into(),
                ));
            }
            _ => (),
        }
        let segments = text("segment_container").map(|name| match is_container(name) {
            true => Ok(name.to_owned()),
            false => Err(invalid(format!("segment_container: {name:?} is not the name of a container"))),
        });
        Ok(Self {
            access,
            storage_url,
            part_bytes: text("part_size").map(|text| parse_part_size(text, CRC_BLOCK)).transpose()?,
            segments: segments.transpose()?,
            content_type: header("content_type", text("content_type"))?,
            settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn parse(pairs: &[(&str, &str)]) -> Result<SwiftOptions, Error> {
        SwiftOptions::parse(&pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn what_is_wrong_is_said_and_no_secret_is_repeated() {
        const URL: (&str, &str) = ("storage_url", "https://h/v1/a");
        for pairs in [
            &[][..],
            &[("token", "hush")],
            &[("temp_url_key", "hush")],
            &[("temp_url_key", ""), URL],
            &[("temp_url_key", "hush"), ("token", "hush"), URL],
            &[("storage_url", "https://u:hush@h/v1/a")],
            &[("storage_url", "https://h/v1/a?hush")],
            &[("storage_url", "h/v1/a")],
            &[("part_size", "1"), URL],
            &[("part_size", "2G"), URL],
            &[("segment_container", "a/b"), URL],
            &[("segment_container", ""), URL],
            &[("content_type", "a\nb"), URL],
            &[("password", "hush"), URL],
            &[("surplus", "hush"), URL],
            &[("auth_url", "https://k"), ("token", "hush"), ("endpoint", "https://h/v1/a"), URL],
        ] {
            let error = parse(pairs).expect_err(&format!("{pairs:?}"));
            assert_eq!(error.code, Code::InvalidOption, "{pairs:?}");
            assert!(!error.message.contains("hush"), "{error}");
        }
        for pairs in [
            &[URL][..],
            &[("token", "hush"), URL],
            &[("temp_url_key", "hush"), URL],
            &[("auth_url", "https://k"), ("token", "hush")],
            &[("auth_url", "https://k"), ("token", "hush"), URL],
        ] {
            let shown = format!("{:?}", parse(pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}")));
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
}
