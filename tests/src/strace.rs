//! System calls of a running process, seen or held up by strace(1).

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::{
    process::{Killed, eventually, signal},
    service::PATIENCE,
};

/// An strace that is attached to a process with all its threads; let go of when it is dropped.
pub struct Strace {
    process: Killed,
    folder: tempfile::TempDir,
}

impl Strace {
    /// Attaches to a process (which needs root) and waits until that is done; `options` say which calls are of
    /// interest.
    pub fn attach(pid: u32, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let messages = fs::File::create(folder.path().join("messages")).expect("a file can be made");
        let mut command = Command::new("strace");
        command.args(["-f", "-yy", "-s", "4096", "-e", "signal=none"]).args(options);
        command.args(["-p", &pid.to_string(), "-o"]).arg(folder.path().join("trace"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        let process = Killed(command.spawn().expect("strace starts; tests/run installs it"));
        let mut strace = Self { process, folder };
        eventually(PATIENCE, "strace is attached", || {
            let said = fs::read_to_string(strace.path("messages")).expect("just made");
            let ended = strace.process.0.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "strace cannot trace (it needs root): {said}");
            said.contains("attached").then_some(())
        });
        strace
    }

    /// What it has seen so far, a line for each beginning and end of a call.
    pub fn seen(&self) -> String {
        // Made with the first call that is seen.
        fs::read_to_string(self.path("trace")).unwrap_or_default()
    }

    /// Lets go of the process; everything that was seen.
    pub fn finish(mut self) -> String {
        signal(self.process.0.id(), Signal::INT);
        self.process.0.wait().expect("a child can be waited for");
        self.seen()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
