//! Who decides which transfers run, and as which user.

use std::path::PathBuf;

pub use staccato_protocols::outside::SystemUser;

/// Who decides which transfers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchedulerChoice {
    /// The policy `slots`.
    Slots,
    /// This executable.
    Outside(PathBuf),
}
