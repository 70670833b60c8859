//! `--install-rivals`: Debian's packages of whoever is absent.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::contestants::{installed, packages_of_absent};

/// What Debian's packages ask whether they may start a service (invoke-rc.d(8)): an nginx of everybody's own would only
/// be in the way.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is absent, as root, with apt-get.
pub fn rivals() -> io::Result<()> {
    let packages = packages_of_absent(|program| installed(program));
    if packages.is_empty() {
        return Ok(());
    }
    if let Some(why) = hindrance(rustix::process::geteuid().is_root(), installed("apt-get"), &packages) {
        return Err(io::Error::other(why));
    }
    eprintln!("installing {}", packages.join(" "));
    let _policy = Policy::forbid_services()?;
    apt_get(&["update", "-qq"])?;
    apt_get(&[&["install", "-y", "-qq", "--no-install-recommends"], &packages[..]].concat())
}

/// Why it cannot be done here, with what to do instead.
fn hindrance(is_root: bool, has_apt: bool, packages: &[&str]) -> Option<String> {
    let packages = packages.join(" ");
    match (is_root, has_apt) {
        (true, true) => None,
        (_, false) => {
            Some(format!("there is no apt-get to install rivals with; packages like Debian's {packages} have them"))
        }
        (false, true) => Some(format!("rivals are installed by root only; run: sudo apt-get install {packages}")),
    }
}

fn apt_get(arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    // Results alone go to standard output.
    let status = command.stdout(io::stderr()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("apt-get {} failed", arguments.join(" ")))) }
}

/// No package starts its service while this lives.
struct Policy {
    /// Nothing where the machine has a policy of its own.
    made: Option<&'static Path>,
}

impl Policy {
    fn forbid_services() -> io::Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            return Ok(Self { made: None });
        }
        fs::write(path, "#!/bin/sh\nexit 101\n")?;
        let made = Self { made: Some(path) };
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(made)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        // If it cannot be removed, root will see it there.
        let _ = self.made.map(fs::remove_file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_install_is_told_which_packages() {
        assert_eq!(hindrance(true, true, &["fio"]), None);
        let not_root = hindrance(false, true, &["fio", "aria2"]).unwrap();
        assert!(not_root.contains("root") && not_root.contains("apt-get install fio aria2"), "{not_root}");
        for is_root in [false, true] {
            let no_apt = hindrance(is_root, false, &["fio", "aria2"]).unwrap();
            assert!(no_apt.contains("no apt-get") && no_apt.contains("fio aria2"), "{no_apt}");
        }
    }
}
