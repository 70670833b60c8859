//! Who takes part in the cases: ours, other people's tools, and the limits of the hardware.

mod fetch;
mod limits;
mod ours;
mod rivals;

pub use fetch::{Fetch, fetch_rivals};
pub use limits::{Fio, RawDisk};
pub use ours::Attempt;
pub use rivals::{Rival, file_rivals, installed, sparse_rivals};
