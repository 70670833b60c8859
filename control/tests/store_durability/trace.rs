//! System calls of a process, as strace writes them down.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// One system call. Numbers are lines of the trace.
pub struct Call {
    pub name: String,
    pub text: String,
    pub began: usize,
    pub ended: usize,
}

impl Call {
    pub fn succeeded(&self) -> bool {
        self.text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'))
    }

    /// The file behind the descriptor that is the first argument; empty for calls that have none.
    pub fn file(&self) -> &str {
        let inside = self.text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        inside.map_or("", |(file, _)| file)
    }

    /// The path that is argument number `at` of those in quotes.
    pub fn path(&self, at: usize) -> &Path {
        Path::new(self.text.split('"').nth(2 * at + 1).expect("a path in quotes"))
    }
}

/// A command under strace, with these options; the trace goes to `log`.
pub fn traced(program: &Command, log: &Path, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "40", "-o"]).arg(log).args(options).arg("--");
    strace.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        strace.env(name, value.expect("nothing is taken out of the environment"));
    }
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    strace
}

/// Runs a command under strace, and to its end.
pub fn run_traced(program: &Command, log: &Path, options: &[&str]) {
    let output = traced(program, log, options).output().expect("strace cannot be started: install the package strace");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "strace cannot trace here, or the program failed: {errors}");
}

/// The system calls of a trace, in the order they ended.
pub fn calls(log: &Path) -> Vec<Call> {
    let mut unfinished: HashMap<String, (String, usize)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in fs::read_to_string(log).expect("a trace").lines().enumerate() {
        let (thread, text) = line.split_once(' ').expect("a thread and a call");
        let text = text.trim_start();
        if let Some(begin) = text.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread.to_owned(), (begin.to_owned(), at));
            continue;
        }
        let (text, began) = match text.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>")) {
            Some((_, rest)) => {
                let (begin, began) = unfinished.remove(thread).expect("it began");
                (begin + rest, began)
            }
            None => (text.to_owned(), at),
        };
        if let Some((name, _)) = text.split_once('(') {
            calls.push(Call { name: name.to_owned(), text: text.clone(), began, ended: at });
        }
    }
    calls
}
