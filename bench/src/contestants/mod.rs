//! Who takes part in the cases: ours, other people's tools, and the limits of the hardware.

mod fetch;
mod limits;
mod ours;
mod rivals;

pub use fetch::{Fetch, fetch_rivals};
pub use limits::{Fio, Processor, RawDisk};
pub use ours::{Attempt, Bare, Transfer};
pub use rivals::{Rival, file_rivals, installed, sparse_rivals};
