//! Copies in memory that are thirty times slower than others, and how a process is spared them.
//!
//! On AMD's processors since Zen 3, `rep movsb` moves less than 2 GB/s instead of 60 where the destination lies up to 16
//! bytes behind the source, modulo 4,096. glibc before 2.40 copies everything from 2 KiB on with it (sourceware.org,
//! bug 30994). A record of TLS has a head of 5 bytes before what it holds, so that just these copies are those of
//! encryption: they took longer than AES. glibc chooses when a process starts, and can be told by its environment only.

use std::{
    env,
    ffi::{OsStr, OsString},
    hint::black_box,
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::Command,
    time::{Duration, Instant},
};

/// What glibc reads when a process starts, ...
const TUNABLES: &str = "GLIBC_TUNABLES";
/// ... and what decides from how many bytes on it copies with `rep movsb`.
const THRESHOLD: &str = "glibc.cpu.x86_rep_movsb_threshold";
/// More than anybody copies at once.
const NEVER: &str = "0x40000000";

const PAGE: usize = 4096;
const COPIED_BYTES: usize = 2 * PAGE;
const HEAD_BYTES: usize = 5;
/// The fastest of so many counts: others of the machine can only make it slower.
const TRIES: usize = 16;
/// So many times as slow: not noise.
const SLOW: u32 = 4;

/// Has the process begin anew, once, with an environment that spares it slow copies, where it has them. To be called
/// before anything else: nothing but arguments, environment and open files is kept. Costs some 30 microseconds.
pub fn spare_slow_ones() {
    let tunables = env::var_os(TUNABLES);
    if is_chosen(tunables.as_deref()) || !are_slow() {
        return;
    }
    let begin_anew = || -> io::Result<()> {
        let mut arguments = env::args_os();
        let mut command = Command::new(env::current_exe()?);
        command.arg0(arguments.next().unwrap_or_default()).args(arguments).env(TUNABLES, with_threshold(tunables));
        Err(command.exec())
    };
    // It works as it is; only slower.
    if let Err(error) = begin_anew() {
        eprintln!("staccato: copies in memory stay slow, for this program cannot start itself again: {error}");
    }
}

/// Whether somebody has decided already.
fn is_chosen(tunables: Option<&OsStr>) -> bool {
    tunables.is_some_and(|set| set.as_bytes().windows(THRESHOLD.len()).any(|name| name == THRESHOLD.as_bytes()))
}

/// The tunables that were set, and this one.
fn with_threshold(tunables: Option<OsString>) -> OsString {
    let mut all = tunables.filter(|set| !set.is_empty()).map_or_else(OsString::new, |mut set| {
        set.push(":");
        set
    });
    all.push(format!("{THRESHOLD}={NEVER}"));
    all
}

/// Whether copies with the bytes of a head between them are much slower than others.
fn are_slow() -> bool {
    let source = vec![1_u8; COPIED_BYTES + PAGE];
    let mut destination = vec![0_u8; COPIED_BYTES + 2 * PAGE];
    let from = source.as_ptr().align_offset(PAGE);
    let to = destination.as_ptr().align_offset(PAGE);
    let mut fastest = |head: usize| {
        let one = |_| {
            let began = Instant::now();
            destination[to + head..][..COPIED_BYTES].copy_from_slice(&source[from..][..black_box(COPIED_BYTES)]);
            black_box(&mut destination);
            began.elapsed()
        };
        (0..TRIES).map(one).min().unwrap_or(Duration::ZERO)
    };
    // Several pages apart, where nothing is slow, and then with a head.
    fastest(HEAD_BYTES) > fastest(PAGE / 2) * SLOW
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a process of its own, which begins anew where copies are slow.
    #[test]
    fn a_process_that_was_spared_copies_fast() {
        const WITHIN: &str = "STACCATO_TEST_COPIES";
        if env::var_os(WITHIN).is_some() {
            spare_slow_ones();
            assert!(!are_slow(), "copies behind a head are slow");
            return;
        }
        let name = "copies::tests::a_process_that_was_spared_copies_fast";
        let mut within = Command::new(env::current_exe().unwrap());
        within.args([name, "--exact", "--test-threads=1"]).env(WITHIN, "").env_remove(TUNABLES);
        let ended = within.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn what_others_have_set_stays() {
        let with = |set: &str| with_threshold(Some(set.into())).into_string().unwrap();
        let own = format!("{THRESHOLD}={NEVER}");
        assert_eq!(with_threshold(None), OsString::from(&own));
        assert_eq!(with(""), own);
        assert_eq!(with("glibc.malloc.arena_max=1"), format!("glibc.malloc.arena_max=1:{own}"));
        assert!(is_chosen(Some(OsStr::new(&own))) && is_chosen(Some(OsStr::new(&with("a=b")))));
        assert!(!is_chosen(None) && !is_chosen(Some(OsStr::new("glibc.malloc.arena_max=1"))));
    }
}
