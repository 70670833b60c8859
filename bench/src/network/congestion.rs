//! TCP's congestion control in a namespace.

use std::{
    fs, io,
    sync::{Mutex, PoisonError},
};

use super::ip::run;

/// Those that whoever is not root on the machine may choose, and other namespaces than its own (ip-sysctl of the kernel).
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// Makes `name` the default in a namespace. Where the machine does not allow that, it does for this moment.
pub(super) fn set(namespace: &str, name: &str) -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = fs::read_to_string(ALLOWED)?;
    let lacks_it = !allowed.split_whitespace().any(|one| one == name);
    if lacks_it {
        fs::write(ALLOWED, format!("{} {name}", allowed.trim())).map_err(|error| {
            io::Error::new(error.kind(), format!("the kernel has no congestion control {name}: {error}"))
        })?;
    }
    let setting = format!("net.ipv4.tcp_congestion_control={name}");
    let set = run("ip", &["netns", "exec", namespace, "sysctl", "-qw", &setting]).map(drop);
    if lacks_it {
        fs::write(ALLOWED, allowed)?;
    }
    set
}
