//! What `copy` and `submit` both take: how an object is moved, with a service or without.

use clap::Args;

use super::protocol_options::ProtocolOptions;
use crate::model::request::CONNECTIONS_MAX;

/// See the module.
#[derive(Clone, Debug, Default, Args)]
pub struct Movement {
    /// Replace an object that is at the destination already; `--overwrite=repair` moves only blocks of it that differ
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        value_parser = ["always", "repair"]
    )]
    pub overwrite: Option<String>,
    /// What the moved bytes must have: sha256, sha512, md5, crc32 or crc32c, a colon and the digest in hex
    #[arg(long, value_name = "KIND:HEX")]
    pub checksum: Option<String>,
    /// Most bytes per second, for instance 50M
    #[arg(long, value_name = "SIZE")]
    pub rate_limit: Option<String>,
    /// Unit of reading, writing and retry, a multiple of 1M
    #[arg(long, value_name = "SIZE")]
    pub chunk_size: Option<String>,
    /// Connections to a source behind a network, 1 to 1024; as many as bring something when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub connections: Option<u32>,
    #[command(flatten)]
    pub options: ProtocolOptions,
}
