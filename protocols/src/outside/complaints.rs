//! What a plug-in writes to standard error goes to the service's log: line by line, and not more than a log can bear.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    process::ChildStderr,
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};

/// Longest line that is logged, in bytes; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 1024;
/// Most lines that are logged in one period; the rest are counted.
const LINES_MAX: u32 = 100;
/// How long a period lasts.
const PERIOD: Duration = Duration::from_secs(10);

/// Logs what comes until the plug-in has ended, on a thread of its own, which nobody waits for.
pub fn forward(mut errors: ChildStderr, ended: OwnedFd, plugin: String) -> io::Result<()> {
    let run = move || {
        let mut lines = Lines::new(Instant::now());
        let mut buffer = [0; 4096];
        let mut log = |line: &str| tracing::warn!(plugin, "the plug-in says: {line}");
        loop {
            match errors.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => lines.take_in(&buffer[..read], Instant::now(), &mut log),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&errors, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
                    let waited = poll(&mut fds, None);
                    let [more, end] = fds.map(|fd| !fd.revents().is_empty());
                    // Somebody whom it started may hold the pipe for ever.
                    if waited.is_ok() && end && !more {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        lines.end(&mut log);
    };
    thread::Builder::new().name("complaints".into()).spawn(run).map(drop)
}

/// Cuts bytes into lines, and lets so many through.
struct Lines {
    line: Vec<u8>,
    period: Instant,
    logged: u32,
    left_out: u64,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self { line: Vec::new(), period: now, logged: 0, left_out: 0 }
    }

    fn take_in(&mut self, bytes: &[u8], now: Instant, log: &mut impl FnMut(&str)) {
        if now.duration_since(self.period) >= PERIOD {
            self.tell_left_out(log);
            (self.period, self.logged) = (now, 0);
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.finish(log);
            }
        }
    }

    fn end(&mut self, log: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.finish(log);
        }
        self.tell_left_out(log);
    }

    fn finish(&mut self, log: &mut impl FnMut(&str)) {
        let line = std::mem::take(&mut self.line);
        if self.logged == LINES_MAX {
            self.left_out += 1;
            return;
        }
        self.logged += 1;
        let line = String::from_utf8_lossy(&line);
        log(&line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect::<String>());
    }

    fn tell_left_out(&mut self, log: &mut impl FnMut(&str)) {
        if self.left_out > 0 {
            log(&format!("({} more lines, which are left out)", std::mem::take(&mut self.left_out)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_logged_line_by_line_and_not_without_end() {
        let mut logged = Vec::new();
        let mut log = |line: &str| logged.push(line.to_owned());
        let begun = Instant::now();
        let mut lines = Lines::new(begun);
        lines.take_in(b"one\ntw", begun, &mut log);
        lines.take_in(b"o\x1b[1m\n", begun, &mut log);
        (0..9).for_each(|_| lines.take_in(&[b'x'; 1000], begun, &mut log));
        lines.take_in(b"\n", begun, &mut log);
        (0..200).for_each(|_| lines.take_in(b"more\n", begun, &mut log));
        assert!(lines.line.capacity() <= LINE_BYTES_MAX * 2);
        lines.take_in(b"later", begun + PERIOD, &mut log);
        lines.end(&mut log);
        assert_eq!(logged[..3], ["one".to_owned(), "two [1m".to_owned(), "x".repeat(LINE_BYTES_MAX)]);
        assert_eq!(logged.len(), LINES_MAX as usize + 2);
        assert_eq!(logged[LINES_MAX as usize..], ["(103 more lines, which are left out)", "later"]);
    }
}
