//! Access protocols: where bytes live.
//!
//! A *protocol* is code that reads or writes one kind of storage, chosen by the scheme of a URL. It knows nothing of
//! transfers, of REST or of the store: it opens objects, reads ranges of them and writes chunks, on the io_uring lane
//! that calls it. Begin with [`contract`]; [`registry`] says which schemes a process offers.

#![warn(missing_docs)]

pub mod checksum;
pub mod chunk;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod contract;
pub mod error;
pub mod file;
pub mod glance;
pub mod http;
pub mod interrupt;
pub mod keystone;
pub mod object;
pub mod outside;
mod parts;
pub mod plugin;
pub mod range;
pub mod registry;
pub mod s3;
mod size;
pub mod spool;
pub mod sums;
pub mod swift;
pub mod synthetic;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod url;
pub mod web;

pub use checksum::{Checksum, ChecksumKind};
pub use chunk::{BufferPool, Chunk};
pub use contract::{Capabilities, Destination, Lane, Options, Protocol, Runtime, Session, Source};
pub use error::{Code, Disposition, Error};
pub use interrupt::Interrupt;
pub use object::{Access, FileTime, Object, Validator};
pub use range::ByteRange;
pub use registry::Registry;
pub use url::ObjectUrl;

/// Size in bytes of a CRC block, counted from offset 0 of what is written. A format constant: sidecars, checkpoints
/// and (later) frames carry one CRC-32 for each block, so it never changes within a format version.
pub const CRC_BLOCK: u64 = 1 << 20;
