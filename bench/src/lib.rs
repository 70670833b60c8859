//! Measures the dataplane beside its rivals, in one run, on one disk.
//!
//! What makes a comparison fair is in [`cases`]: contestants run in interleaved rounds, each from a cold page cache, each
//! until its bytes are durable. [`rivals`] are other people's tools; [`staccato`] is ours; [`limits`] are what the hardware
//! gives; [`report`] prints medians and ratios.

#![warn(missing_docs)]

pub mod cases;
pub mod limits;
pub mod report;
pub mod rivals;
pub mod staccato;
