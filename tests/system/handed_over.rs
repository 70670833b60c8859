//! Sockets that whoever starts the service hands over, as systemd does.

use std::{
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use staccato_tests::{
    binary::staccato,
    process::{Killed, signal},
};

/// The first descriptor of those that are handed over (sd_listen_fds(3)).
const FIRST: i32 = 3;

#[test]
fn a_service_listens_on_what_it_was_handed_and_nobody_is_refused_while_it_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || {
        // The shell becomes the service, so that the process id in the environment is the service's own.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#, "sh"]).arg(staccato()).args(["--json", "serve"]);
        command.args(["--executors", "none", "--log", "warn", "--data-dir"]).arg(folder.path().join("data"));
        let socket = listener.as_raw_fd();
        // SAFETY: only dup2 and fcntl are called between fork and exec, which may be.
        unsafe {
            command.pre_exec(move || match libc::dup2(socket, FIRST) {
                // Where it is that very descriptor already, dup2 leaves its flag to close it alone.
                FIRST if libc::fcntl(FIRST, libc::F_SETFD, 0) == 0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let child = Killed(child);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(ready["urls"], serde_json::json!([format!("http://{address}")]), "{line}");
        (child, said)
    };
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let ask = || agent.get(format!("http://{address}/healthz")).call().unwrap().status().as_u16();
    let (mut service, _said) = start();
    assert_eq!(ask(), 200);
    signal(service.0.id(), Signal::TERM);
    assert!(service.0.wait().unwrap().success());
    // Nobody accepts now, and nobody is refused: the socket is still there.
    let waiting = TcpStream::connect(address).expect("the kernel keeps it until a service is there again");
    let (_service, _said) = start();
    assert_eq!(ask(), 200);
    drop(waiting);
}
