//! Who takes part in the cases: ours, other people's tools, and the limits of the hardware.

mod fetch;
mod limits;
mod link;
mod ours;
mod rivals;
pub mod rsync;
pub mod service;
mod tools;

pub use fetch::{Fetch, fetch_rivals};
pub use limits::{Fio, Processor, RawDisk};
pub use link::{Both, LinkCase, Storage, link_contestants};
pub use ours::{Attempt, Bare, Transfer};
pub use rivals::{Rival, file_rivals, sparse_rivals};
pub use tools::{LIBTORRENT, TOOLS, Tool, installed, packages_of_absent, path_of};
