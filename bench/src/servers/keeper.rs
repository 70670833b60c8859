//! Ends every server with the process that started it, whether that returns, panics, is interrupted or killed.
//!
//! Tests are threads of one process, and a shared server is a static, which nobody drops. So nothing here waits for
//! code of ours to run:
//! - The kernel kills a program when its parent is gone. By that it means the *thread* that started it, and the thread
//!   of a test ends with its test; hence one thread that starts them all, and lives as long as the process.
//! - A shell removes the folder. It waits for the end of a pipe whose other end this process alone holds.

use std::{
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::target_folder;

/// Programs may still write in the folder while the kernel ends them: the shell tries for five seconds.
const REMOVE: &str =
    r#"read -r end; for try in $(seq 50); do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.1; done; exit 1"#;

type Started = (Command, io::Result<Child>);

/// Starts a program that ends with this process; gives the command back, to start it again.
pub(super) fn start(command: Command) -> Started {
    static ORDERS: OnceLock<Sender<(Command, Sender<Started>)>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = channel::<(Command, Sender<Started>)>();
        let serve = move || {
            for (mut command, answer) in receiver {
                let child = command.spawn();
                answer.send((command, child)).expect("whoever asked waits");
            }
        };
        thread::Builder::new().name("keeper".into()).spawn(serve).expect("a thread can be started");
        sender
    });
    let (answer, started) = channel();
    orders.send((command, answer)).expect("the thread lives as long as the process");
    started.recv().expect("the thread answers")
}

/// Makes the kernel kill a program when this process is gone.
pub(super) fn end_with_this_process(command: &mut Command) {
    let own = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may be gone already, before the kernel was asked.
        if getppid() == Some(own) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: between fork and exec only prctl and getppid are called: no allocation, no lock.
    unsafe { command.pre_exec(ask) };
}

/// The folder in which the folders of all servers lie: on a disk, and gone when this process is.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (folder, _) = FOLDER.get_or_init(|| {
        let parent = target_folder().map_or_else(std::env::temp_dir, |target| target.join("servers"));
        std::fs::create_dir_all(&parent).expect("a folder can be made");
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(parent).expect("a folder can be made");
        let folder = folder.keep();
        let mut shell = Command::new("sh");
        shell.args(["-c", REMOVE, "sh"]).arg(&folder);
        // In a group of its own: Ctrl-C is meant for whoever started it.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = shell.spawn().expect("a shell can be started");
        (folder, shell)
    });
    folder
}
