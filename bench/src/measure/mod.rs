//! How a contestant's run is measured, whoever it is: as a child process, from outside.

mod machine;
mod memory;
mod meters;
mod process;

pub use machine::{Load, NOISY_SHARE, noise};
pub use memory::{MemoryState, first_touch_rate};
pub use meters::{Meter, Recorder};
pub use process::{
    Ended, children, children_cpu_seconds, count_system_calls, cpu_seconds, forget_rss_max, own_cpu_seconds,
    rss_bytes_max, run,
};
