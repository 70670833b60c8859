//! ip(8) and tc(8).

use std::{
    io,
    process::{Command, Stdio},
};

/// Runs `ip` with these words.
pub(super) fn ip(words: &[&str]) -> io::Result<String> {
    run("ip", words)
}

/// Runs a program of the system's to its end; what it said, or an error that repeats it.
pub(super) fn run(program: &str, words: &[&str]) -> io::Result<String> {
    let mut command = Command::new(program);
    // Where users have no such folders on PATH, root's programs are there all the same.
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(words).env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), format!("{program} is not there; install Debian's package iproute2"))
        }
        kind => io::Error::new(kind, format!("{program}: {error}")),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {} failed: {}", words.join(" "), said.trim())))
}
