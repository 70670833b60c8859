//! Real storage servers: Keystone, Glance, Swift, and rclone's S3 and WebDAV. `tests/run` installs them; where it may
//! not, it skips this module.

mod http_put;
mod s3;
mod servers;
