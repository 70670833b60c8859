//! Where processes write their log.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// Logs to standard error what `filter` lets through, in colours where that is a terminal. Does nothing where something
/// logs already.
pub(super) fn to_standard_error(filter: &str) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .with_target(false);
    let _ = log.try_init();
}
