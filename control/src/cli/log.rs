//! Where processes write their log.

use std::io::{self, IsTerminal as _, Write};

use indicatif::ProgressBar;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Logs to standard error what `filter` lets through, in colours where that is a terminal. Does nothing where something
/// logs already.
pub(super) fn to_standard_error(filter: &str) {
    to(io::stderr, filter);
}

/// The same for a command whose progress bar is there, too: the bar makes room for every line and is drawn again below.
pub(super) fn beside(bar: &ProgressBar, filter: &str) {
    let bar = bar.clone();
    to(move || BesideBar(bar.clone()), filter);
}

fn to(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static, filter: &str) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer)
        .with_target(false);
    let _ = log.try_init();
}

struct BesideBar(ProgressBar);

impl Write for BesideBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // All of it, for the bar comes back right behind.
        self.0.suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
