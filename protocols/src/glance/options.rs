//! The client's options for Glance, parsed once.

use serde_json::{Map, Value};

use crate::{
    Error, Options,
    contract::OptionSpec,
    keystone::{Account, AccountOptions, account},
    web::settings::{self, Settings, invalid},
};

/// Valid options.
#[derive(Debug)]
pub(super) struct GlanceOptions {
    /// Who asks.
    pub account: Account,
    /// Those that every module has.
    pub settings: Settings,
    /// What an image that is made shall be like.
    pub image: ImageOptions,
}

/// What an image that is made shall be like.
#[derive(Debug, Default)]
pub(super) struct ImageOptions(Map<String, Value>);

/// The names of all of them.
pub(super) const ALL: &[OptionSpec] = &account::with_own::<{ OWN.len() }, { account::OPTIONS.len() + OWN.len() }>(OWN);

const OWN: [OptionSpec; 13] = [
    image("name", "name of the image that is made (default that of the transfer)"),
    image("disk_format", "format of the image's data: raw (default), qcow2, iso, ..."),
    image("container_format", "what its data is wrapped in: bare (default), ova, docker, ..."),
    image("visibility", "who sees the image: private, shared (default), community or public"),
    image("min_disk", "smallest disk it boots from, in GB"),
    image("min_ram", "least memory it boots with, in MB"),
    image("protected", "true: nobody can delete it"),
    image("tags", "its tags, with commas between them"),
    image("property.*", "a property of the image, for instance property.os_distro"),
    settings::CA,
    settings::CONNECT_TIMEOUT,
    settings::STALL_TIMEOUT,
    settings::TOTAL_TIMEOUT,
];

const fn image(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, secret: false, help }
}

/// Those that say neither where a token goes nor who asks: what an image that is made shall be like, and how long to wait.
pub(super) const HARMLESS: &[&str] = &[
    "name",
    "disk_format",
    "container_format",
    "visibility",
    "min_disk",
    "min_ram",
    "protected",
    "tags",
    "property.*",
    "connect_timeout",
    "stall_timeout",
    "total_timeout",
];

/// Properties that are Glance's own, or this module's: `property.*` sets others.
const RESERVED: &[&str] = &[
    "id",
    "name",
    "status",
    "visibility",
    "size",
    "virtual_size",
    "checksum",
    "owner",
    "protected",
    "tags",
    "min_disk",
    "min_ram",
    "disk_format",
    "container_format",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "locations",
    "direct_url",
    "stores",
    "os_hidden",
    "os_hash_algo",
    "os_hash_value",
    "staccato_transfer",
];

impl GlanceOptions {
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let (mut account, mut settings) = (AccountOptions::default(), Settings::default());
        let mut image = ImageOptions::default();
        for (name, value) in options {
            if !account.take(name, value)? && !settings.take(name, value)? && !image.take(name, value)? {
                return Err(invalid(format!("{name:?} is not an option of glance")));
            }
        }
        Ok(Self { account: account.finish()?, settings, image })
    }

    /// Refuses options about an image that is made where one is read.
    pub fn check_reading(&self) -> Result<(), Error> {
        match self.image.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(invalid(format!("{name} is for an image that is made; leave it out of source_options"))),
        }
    }
}

impl ImageOptions {
    fn take(&mut self, name: &str, value: &str) -> Result<bool, Error> {
        let parsed = match name {
            "name" | "disk_format" | "container_format" => value.into(),
            "visibility" if ["private", "shared", "community", "public"].contains(&value) => value.into(),
            "visibility" => {
                return Err(invalid(format!(
                    "visibility: {value:?} is none; write private, shared, community or public"
                )));
            }
            "min_disk" | "min_ram" => {
                let number = value.parse::<u32>();
                number.map_err(|_| invalid(format!("{name}: {value:?} is no whole number")))?.into()
            }
            "protected" => {
                let switch = value.parse::<bool>();
                switch.map_err(|_| invalid(format!("protected: {value:?} is no choice; use true or false")))?.into()
            }
            "tags" => value.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect::<Vec<_>>().into(),
            _ => match name.strip_prefix("property.") {
                None => return Ok(false),
                Some(property) if RESERVED.contains(&property) => {
                    return Err(invalid(format!("{name}: {property} is no property of the image's own")));
                }
                Some(property) => {
                    self.0.insert(property.into(), value.into());
                    return Ok(true);
                }
            },
        };
        self.0.insert(name.into(), parsed);
        Ok(true)
    }

    /// Whether nobody shall be able to delete the image once it is complete.
    pub fn is_protected(&self) -> bool {
        self.0.get("protected") == Some(&Value::Bool(true))
    }

    /// The record that makes the image, not protected yet.
    pub fn record(&self, id: &str, transfer: &str) -> Value {
        let mut record = self.0.clone();
        record.remove("protected");
        let default = [
            ("name", format!("staccato-{transfer}")),
            ("disk_format", "raw".into()),
            ("container_format", "bare".into()),
        ];
        for (name, value) in default {
            record.entry(name).or_insert_with(|| value.into());
        }
        record.insert("id".into(), id.into());
        record.insert("staccato_transfer".into(), transfer.into());
        record.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn parse(pairs: &[(&str, &str)]) -> Result<GlanceOptions, Error> {
        GlanceOptions::parse(&pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn an_image_is_made_as_the_options_say() {
        let options = parse(&[
            ("name", "Debian 12"),
            ("disk_format", "qcow2"),
            ("min_ram", "512"),
            ("protected", "true"),
            ("tags", "a, b,"),
            ("property.os_distro", "debian"),
        ]);
        let image = options.unwrap().image;
        let record = image.record("i", "t");
        assert!(image.is_protected());
        let wanted = serde_json::json!({
            "id": "i", "staccato_transfer": "t", "name": "Debian 12", "disk_format": "qcow2", "container_format": "bare",
            "min_ram": 512, "tags": ["a", "b"], "os_distro": "debian",
        });
        assert_eq!(record, wanted);
        assert_eq!(parse(&[]).unwrap().image.record("i", "t")["name"], "staccato-t");
    }

    #[test]
    fn wrong_values_and_others_properties_are_refused() {
        for pair in [
            ("visibility", "secret"),
            ("min_disk", "-1"),
            ("min_ram", "1.5"),
            ("protected", "yes"),
            ("property.status", "active"),
            ("property.staccato_transfer", "t"),
        ] {
            assert_eq!(parse(&[pair]).expect_err(pair.0).code, Code::InvalidOption, "{pair:?}");
        }
        assert!(parse(&[("name", "x")]).unwrap().check_reading().is_err());
    }
}
