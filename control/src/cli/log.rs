//! Where processes write their log.

use tracing_subscriber::EnvFilter;

/// Logs to standard error what `filter` lets through. Does nothing where something logs already.
pub(super) fn to_standard_error(filter: &str) {
    let filter = EnvFilter::new(filter);
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
}
