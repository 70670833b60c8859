//! rsync's daemon, which serves a folder without encryption.

use std::{fs, io, net::SocketAddr, path::Path};

/// The command of a daemon at `at` that serves `files` as `rsync://AT/files/`, with its configuration in `folder`.
pub fn daemon(folder: &Path, files: &Path, at: SocketAddr) -> io::Result<Vec<String>> {
    let user = if rustix::process::geteuid().is_root() { "uid = root\ngid = root\n" } else { "" };
    let (config, address, files) = (folder.join("rsyncd.conf"), at.ip(), files.display());
    let text = format!("use chroot = no\naddress = {address}\n{user}[files]\npath = {files}\nread only = yes\n");
    fs::write(&config, text)?;
    let (port, config) = (at.port().to_string(), config.display().to_string());
    let words = ["rsync", "--daemon", "--no-detach", "--port", &port, "--config", &config];
    Ok(words.map(str::to_owned).into())
}
