//! A process whose clock is wrong: libfaketime stands between it and the operating system.

use std::fs;

/// What a process finds in its environment so that its clock differs by this: `+20h`, `-3d`. What time takes (monotonic
/// clocks) is not changed, as on a real machine.
pub fn environment(by: &str) -> Vec<(&'static str, String)> {
    let library = fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketime.so.1")))
        .find(|path| path.exists())
        .expect("Debian's package faketime is there; tests/run installs it");
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", by.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}
