//! A child process, its CPU seconds, its memory and its system calls.

use std::{
    fs,
    io::{self, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process that has ended well.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// From before it was started to its end.
    pub seconds: f64,
    /// User and system CPU seconds of it and its children that it waited for.
    pub cpu_seconds: f64,
    /// Most memory of it, or of one of its children, at a time. Not less than what this process, its parent, has: a few
    /// MiB.
    pub rss_bytes_max: u64,
    /// What it wrote to standard output.
    pub output: Vec<u8>,
}

/// Runs a command to its end. One that fails is an error that repeats what it said.
pub fn run(command: &mut Command) -> io::Result<Ended> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
    let mut errors = child.stderr.take().expect("it was asked for");
    let said = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        text
    });
    let mut output = Vec::new();
    child.stdout.take().expect("it was asked for").read_to_end(&mut output)?;
    let (status, usage) = wait(child)?;
    let seconds = began.elapsed().as_secs_f64();
    let said = said.join().unwrap_or_default();
    if status != 0 {
        let said = String::from_utf8_lossy(&said);
        return Err(io::Error::other(format!("{command:?} failed (wait status {status}): {}", said.trim())));
    }
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    // The kernel counts in kibibytes (getrusage(2)).
    let rss_bytes_max = u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10;
    Ok(Ended { seconds, cpu_seconds: cpu.as_secs_f64(), rss_bytes_max, output })
}

/// User and system CPU seconds of this process so far.
pub fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// User and system CPU seconds of all children of this process, and theirs, that were waited for.
pub fn children_cpu_seconds() -> f64 {
    // SAFETY: all zero is a valid value of a structure of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live variable of the right type. It cannot fail then.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    (duration(usage.ru_utime) + duration(usage.ru_stime)).as_secs_f64()
}

/// User and system CPU seconds of another process, with threads that have ended: from its own clock, because ticks are
/// coarse.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are to live variables of the right types.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return Err(io::Error::other(format!("process {pid} has no clock (any more)")));
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Most memory of another process at a time (`VmHWM` of proc_pid_status(5)).
pub fn rss_bytes_max(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes << 10).ok_or_else(|| io::Error::other("the kernel tells no VmHWM"))
}

/// What a process had in memory so far does not count any more (proc_pid_clear_refs(5)).
pub fn forget_rss_max(pid: u32) {
    // Where it may not be, the highest ever counts.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The children of a process, whichever of its threads started them.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    children.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// System calls that a command and all its threads and children make, counted by strace(1); nothing where that is not
/// installed or may not trace. Counting makes a command slow: its times are worth nothing.
pub fn count_system_calls(command: &Command) -> Option<u64> {
    let folder = tempfile::tempdir().ok()?;
    let summary = folder.path().join("summary");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-c", "-o"]).arg(&summary).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    run(&mut traced).ok()?;
    total_calls(&fs::read_to_string(&summary).ok()?)
}

/// The calls in the last line of strace's summary: `100.00 SECONDS USECS CALLS [ERRORS] total`.
fn total_calls(summary: &str) -> Option<u64> {
    let total = summary.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    total.split_whitespace().nth(3)?.parse().ok()
}

fn wait(child: &Child) -> io::Result<(i32, libc::rusage)> {
    let pid = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: all zero is a valid value of a structure of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live variables of the right types, and the child is ours: nobody else waits.
        if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
            return Ok((status, usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_usec).unwrap_or(0) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_with_its_children() {
        let script = "printf hello; head -c 200M /dev/zero | tail -c 200M >/dev/null";
        let ended = run(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(ended.output, b"hello");
        assert!(ended.cpu_seconds > 0.0 && ended.seconds > 0.0, "{ended:?}");
        assert!(ended.rss_bytes_max > 200 << 20, "tail keeps all of it: {ended:?}");
    }

    #[test]
    fn what_a_parent_touched_before_is_not_its_childs() {
        // Other tests of this process touch memory too; without the reset the peak would never be small again.
        let peaks = (0..200).map(|_| {
            crate::measure::first_touch_rate().unwrap();
            run(&mut Command::new("true")).unwrap().rss_bytes_max
        });
        let seen: Vec<u64> =
            peaks.scan(false, |over, peak| (!std::mem::replace(over, peak < 48 << 20)).then_some(peak)).collect();
        assert!(seen.last().is_some_and(|peak| *peak < 48 << 20), "{seen:?}");
    }

    #[test]
    fn a_process_that_fails_says_why() {
        let error = run(Command::new("sh").args(["-c", "echo no room >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
        assert!(run(&mut Command::new("there-is-no-such-program")).is_err());
    }

    #[test]
    fn the_summary_of_strace_is_read() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n------ ----\n 50.00    0.000   1      \
                       7           read\n------ ----\n100.00    0.001224           1      1176         3 total\n";
        assert_eq!(total_calls(summary), Some(1176));
        assert_eq!(total_calls("100.00    0.001224                   12           total"), None);
        assert_eq!(total_calls("nothing"), None);
    }
}
