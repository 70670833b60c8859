//! Other people's programs that take part: how they tell their version, and which package of Debian has them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name on PATH.
    pub program: &'static str,
    /// The argument with which it tells its version.
    pub version: &'static str,
    /// The package that has it.
    pub package: &'static str,
}

/// What tells that Debian's Python has libtorrent, which is no program.
pub const LIBTORRENT: &str = "/usr/lib/python3/dist-packages/libtorrent.egg-info";

const fn tool(program: &'static str, version: &'static str, package: &'static str) -> Tool {
    Tool { program, version, package }
}

/// All of them: rivals, limits, the server that is fetched from, and what counts system calls.
pub const TOOLS: [Tool; 15] = [
    tool("cp", "--version", "coreutils"),
    tool("dd", "--version", "coreutils"),
    tool("rsync", "--version", "rsync"),
    tool("rclone", "version", "rclone"),
    tool("fio", "--version", "fio"),
    tool("curl", "--version", "curl"),
    tool("aria2c", "--version", "aria2"),
    tool("nginx", "-v", "nginx-light"),
    tool("iperf3", "--version", "iperf3"),
    tool("scp", "-V", "openssh-client"),
    tool("sshd", "-V", "openssh-server"),
    tool("openstack", "--version", "python3-openstackclient"),
    tool("opentracker", "-h", "opentracker"),
    tool(LIBTORRENT, "", "python3-libtorrent"),
    tool("strace", "--version", "strace"),
];

/// Whether a program is there.
pub fn installed(program: impl AsRef<Path>) -> bool {
    path_of(program).is_some()
}

/// Where a program is: on PATH, or where root's are. A path is its own answer.
pub fn path_of(program: impl AsRef<Path>) -> Option<PathBuf> {
    let program = program.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| fs::metadata(path).is_ok())
}

/// The packages with what is absent, each once.
pub fn packages_of_absent(is_installed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        TOOLS.iter().filter(|tool| !is_installed(tool.program)).map(|it| it.package).collect();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contest::Contestant as _,
        contestants::{file_rivals, sparse_rivals},
    };

    #[test]
    fn whoever_is_absent_has_a_package_and_whoever_is_there_needs_none() {
        assert_eq!(packages_of_absent(|_| true), [""; 0]);
        assert_eq!(packages_of_absent(|program| !["aria2c", "nginx"].contains(&program)), ["aria2", "nginx-light"]);
        // coreutils once.
        assert_eq!(packages_of_absent(|_| false).len(), TOOLS.len() - 1);
    }

    #[test]
    fn every_rival_has_a_package() {
        let source = std::path::Path::new("/source");
        for rival in file_rivals(source).iter().chain(&sparse_rivals(source)) {
            let command = rival.command(std::path::Path::new("/target"));
            let known = TOOLS.iter().any(|tool| command.get_program() == tool.program);
            assert!(known, "{} is not in the list", rival.name());
        }
    }
}
