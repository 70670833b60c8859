//! The example, which does well, and plug-ins that do not: small ones in Python, made by the tests.

mod bad_days;
mod destinations;
mod rights;
mod whereabouts;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::{ByteRange, conformance::on_lane};

/// Long for what takes a moment, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Short for what never comes.
const IMPATIENCE: Duration = Duration::from_millis(500);
const SIZE: u64 = 5_000_000;

/// What every plug-in of these tests begins with: `say`, `asked` (the next line), and an object of some bytes.
const HEAD: &str = r#"#!/usr/bin/env python3
import json, os, sys, time
def say(message): print(json.dumps(message), flush=True)
def asked(): return json.loads(sys.stdin.readline() or sys.exit())
def opened(it): say({"id": it["id"], "size": 5000000, "validator": "v"})
def read(it):
    os.pwrite(start["area"]["descriptor"], b"x" * it["length"], it["at"])
    say({"id": it["id"], "length": it["length"]})
hello = {"protocol": 1, "name": "test", "source": "ranges"}
"#;

/// The example of this crate.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/staccato-protocol-folder")
}

fn plan(program: &Path) -> Plan {
    let patience = Patience {
        hello: PATIENCE,
        answer: PATIENCE,
        cancel: PATIENCE,
        restart: (Duration::from_millis(10), Duration::from_millis(80)),
    };
    Plan { launch: Launch::of(program), settings: BTreeMap::new(), patience }
}

/// A plug-in whose script follows [`HEAD`], in a folder of its own.
struct Script {
    folder: TempDir,
    program: PathBuf,
}

impl Script {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("staccato-protocol-test");
        fs::write(&program, format!("{HEAD}{script}")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, program }
    }

    /// The same, having said hello and heard where bytes go; `trace` is a file that it may write.
    fn running(script: &str) -> Self {
        let new = Self::new(&format!("say(hello)\nstart = asked()\ntrace = sys.argv[0] + '.trace'\n{script}"));
        assert!(!new.trace().exists());
        new
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("staccato-protocol-test.trace")
    }

    fn plan(&self) -> Plan {
        plan(&self.program)
    }

    fn meet(&self) -> PluginProtocol {
        PluginProtocol::meet(self.plan()).unwrap()
    }

    /// One whose patience is short for answers.
    fn meet_impatiently(&self) -> PluginProtocol {
        let mut plan = self.plan();
        plan.patience.answer = IMPATIENCE;
        plan.patience.cancel = IMPATIENCE;
        PluginProtocol::meet(plan).unwrap()
    }
}

fn request() -> SourceRequest {
    SourceRequest {
        url: ObjectUrl::parse("test:///object").unwrap(),
        options: Options::new(),
        pinned: None,
        aligned: true,
        interrupt: Interrupt::default(),
    }
}

/// Runs a test with a module on a lane.
fn with(module: PluginProtocol, body: impl AsyncFnOnce(PluginProtocol, Rc<Lane>)) {
    on_lane(Runtime::TokioUring, async move |lane| body(module, lane).await);
}

async fn open(module: &PluginProtocol, lane: &Lane) -> Result<Rc<dyn Source>, Error> {
    module.open_source(&request(), lane).await
}

/// Reads the first bytes of an object.
async fn read(source: &Rc<dyn Source>, lane: &Lane, length: u64) -> Result<usize, Error> {
    let chunk = source.read(ByteRange::new(0, length).unwrap(), &lane.pool).await?;
    assert!(chunk.bytes().unwrap().iter().all(|byte| *byte == b'x'));
    Ok(chunk.len())
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there and is no zombie.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[test]
fn the_example_conforms() {
    // On a disk: beside the test's executable, wherever that lies.
    let executable = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir_in(executable.parent().unwrap()).unwrap();
    let settings = [("folder".to_owned(), folder.path().to_str().unwrap().to_owned())].into();
    let module = PluginProtocol::meet(Plan { settings, ..plan(&example()) }).unwrap();
    let checked = check::run(module, Options::new(), |_| ()).unwrap();
    assert_eq!(checked.iter().filter(|one| one.wrong.is_some()).collect::<Vec<_>>(), [] as [&check::Checked; 0]);
    let of = |side: &str| checked.iter().filter(|one| one.name.starts_with(side)).count();
    assert!(of("source: ") > 10 && of("destination: ") > 15, "both sides were checked: {checked:?}");
}

#[test]
fn a_check_says_which_promise_is_not_kept() {
    let script = Script::new(
        r#"
say({**hello, "fixture": True})
start = asked()
while True:
    it = asked()
    if it["do"] == "open": opened(it)
    elif it["do"] == "fixture": say({"id": it["id"], "url": "test:///x"})
    else: say({"id": it["id"]})
"#,
    );
    let checked = check::run(script.meet(), Options::new(), |_| ()).unwrap();
    assert_eq!(checked.len(), 1, "the rest of a side is not checked");
    assert_eq!(checked[0].name, "source: objects_of_critical_sizes_are_read_whole");
    assert!(checked[0].wrong.as_ref().unwrap().contains("5000000"), "{checked:?}");
}

#[test]
fn a_stream_is_read_from_the_front_and_begins_again_where_that_is_asked() {
    let script = Script::new(
        r#"
say({**hello, "source": "sequential"})
start = asked()
while True:
    it = asked()
    if it["do"] == "open": at = 0; say({"id": it["id"], "validator": "v", "size": None})
    elif it["do"] == "read":
        assert it["offset"] == at, (it, at)
        n = min(it["length"], 5000000 - at); at += n
        os.pwrite(start["area"]["descriptor"], b"x" * n, it["at"])
        say({"id": it["id"], "length": n})
    else: say({"id": it["id"]})
"#,
    );
    with(script.meet(), async |module, lane| {
        let source = open(&module, &lane).await.unwrap();
        assert_eq!(source.object().size, None);
        for (start, end, len) in [(0, 10, 10), (4_500_000, 6_000_000, 500_000), (3, 7, 4), (9_000_000, 9_000_001, 0)] {
            let chunk = source.read(ByteRange::new(start, end).unwrap(), &lane.pool).await.unwrap();
            assert_eq!(chunk.len(), len, "{start}..{end}");
        }
    });
}
