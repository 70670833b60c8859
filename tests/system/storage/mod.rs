//! Real storage servers: Keystone, Glance, Swift, and rclone's S3 and WebDAV. `tests/run` installs them; where it may
//! not, it skips this module.

mod bad_days;
mod bench;
mod by_hand;
mod glance;
mod http_put;
mod keystone;
mod s3;
mod servers;
mod swift;
