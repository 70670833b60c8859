//! A ledger over a store in memory, with a clock that stands still until it is told to move.

use std::{
    collections::HashSet,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use staccato_dataplane::attempt::{
    AttemptSpec, CheckpointReport, Completion, Outcome, StageTimes, StopReason, VerifiedRange,
};
use staccato_protocols::{
    ByteRange, Code, Error, ObjectUrl, Options, Registry, Validator,
    contract::{
        Capabilities, DestinationRequest, Identity, Lane, OptionSpec, Protocol, Secrecy, Session, Source,
        SourceRequest, SweepRequest, Takes,
    },
};

use crate::{
    credentials::ConfiguredCredentials,
    ledger::{
        Backoff, Environment, ExecutorProcess, INDEXES, Ledger, LedgerConfig, LedgerError, Scope, Seal,
        change::encode_record,
    },
    model::{CreateRequest, ProblemCode, State, Timestamp, TransferId, TransferRecord},
    store::{Commit, MemoryStore, SharedStore},
};

/// The executor of the fixture.
pub const EXECUTOR: &str = "executor";
/// The owner of the fixture.
pub const OWNER: &str = "owner";
/// Length of every object.
pub const LENGTH: u64 = 8 << 20;
/// A lease.
pub const LEASE: Duration = Duration::from_secs(15);
/// The time in the line.
pub const READY: Duration = Duration::from_secs(30);
/// The least that a clock moves.
pub const MOMENT: Duration = Duration::from_millis(1);

/// Time and randomness of a test.
pub struct Stub {
    millis: Mutex<u64>,
    random: Mutex<fastrand::Rng>,
    dead: Mutex<HashSet<String>>,
}

/// A ledger and what it stands on.
pub struct Fixture {
    pub store: SharedStore,
    pub environment: Arc<Stub>,
    pub ledger: Ledger,
    seal: Box<dyn Fn() -> Seal>,
}

impl Stub {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            millis: Mutex::new(1_700_000_000_000),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            dead: Mutex::default(),
        })
    }

    pub fn advance(&self, by: Duration) {
        *self.millis.lock().unwrap() += u64::try_from(by.as_millis()).unwrap();
    }

    pub fn kill(&self, instance: &str) {
        self.dead.lock().unwrap().insert(instance.to_owned());
    }
}

impl Environment for Stub {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(*self.millis.lock().unwrap())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(*self.millis.lock().unwrap())
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap().u64(..)
    }

    fn is_alive(&self, process: &ExecutorProcess) -> bool {
        !self.dead.lock().unwrap().contains(&process.instance)
    }
}

impl Fixture {
    pub async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(INDEXES))).await
    }

    pub async fn over(store: SharedStore) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let seal = Box::new(move || Seal::open(&folder.path().join("key")).unwrap());
        let environment = Stub::new(1);
        let ledger = open(store.clone(), seal(), environment.clone()).await;
        Self { store, environment, ledger, seal }
    }

    /// The ledger as it is after the process was killed and started again.
    pub async fn reopen(&mut self) {
        self.ledger = open(self.store.clone(), (self.seal)(), self.environment.clone()).await;
    }

    /// The same, with a store that has to be let go of before it is opened again.
    pub async fn reopen_over(&mut self, again: impl FnOnce() -> SharedStore) {
        self.store = Arc::new(MemoryStore::new(INDEXES));
        self.reopen().await;
        self.store = again();
        self.reopen().await;
    }

    /// Lets time pass and does what has become due.
    pub async fn pass(&self, time: Duration) {
        self.environment.advance(time);
        self.ledger.tick().await.unwrap();
    }

    /// A request for an object called `name`, with further fields.
    pub fn request(&self, name: &str, more: Value) -> CreateRequest {
        let mut body = json!({"source_url": "stub://from/s", "destination_url": format!("stub://to/{name}")});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        CreateRequest::from_json(&body, self.ledger.registry()).unwrap()
    }

    pub async fn create_with(&self, name: &str, more: Value) -> TransferId {
        let created = self.ledger.create(&self.request(name, more), OWNER, None).await.unwrap();
        created.document.id.parse().unwrap()
    }

    pub async fn create(&self, name: &str) -> TransferId {
        self.create_with(name, json!({})).await
    }

    /// Schedules a transfer that waits, and claims it.
    pub async fn run(&self, id: TransferId) -> u64 {
        self.run_on(EXECUTOR, id).await.epoch
    }

    pub async fn run_on(&self, executor: &str, id: TransferId) -> AttemptSpec {
        assert!(self.ledger.mark_ready(id, "a slot is free").await.unwrap(), "{id} does not wait");
        let spec = self.ledger.claim(executor, 1).await.unwrap().pop().expect("one is ready");
        assert_eq!(spec.transfer, id.to_string());
        spec
    }

    /// A transfer of its own in this state, reached by the commands that lead there. A leased one has a checkpoint.
    pub async fn in_state(&self, state: State) -> TransferId {
        let id = self.create(&format!("{state}-{}", self.environment.random())).await;
        if matches!(state, State::New | State::Paused | State::Canceled) {
            match state {
                State::Paused => drop(self.ledger.pause(id, &Scope::All).await.unwrap()),
                State::Canceled => drop(self.ledger.cancel(id, &Scope::All).await.unwrap()),
                _ => {}
            }
            return id;
        }
        assert!(self.ledger.mark_ready(id, "a slot is free").await.unwrap());
        if state == State::Ready {
            return id;
        }
        let epoch = self.ledger.claim(EXECUTOR, 1).await.unwrap().pop().expect("it is ready").epoch;
        self.ledger.checkpoint(EXECUTOR, id, epoch, &report(LENGTH / 2)).await.unwrap();
        match state {
            State::Canceling => drop(self.ledger.cancel(id, &Scope::All).await.unwrap()),
            State::Erroring => {
                let wrong = CheckpointReport { bytes_total: Some(1), ..report(LENGTH) };
                self.ledger.checkpoint(EXECUTOR, id, epoch, &wrong).await.unwrap();
            }
            State::Error => {
                let error = Error::fatal(Code::SourceMissing, "it is not there");
                self.ledger.release(EXECUTOR, id, epoch, &Outcome::Failed { error }).await.unwrap();
            }
            State::Complete => {
                self.ledger.prepare(EXECUTOR, id, epoch, &completion()).await.unwrap();
                self.ledger.committed(EXECUTOR, id, epoch, &completion()).await.unwrap();
            }
            _ => {}
        }
        assert_eq!(self.state(id).await, state);
        id
    }

    pub async fn record(&self, id: TransferId) -> TransferRecord {
        self.ledger.load(id).await.unwrap().expect("it is there").0
    }

    pub async fn state(&self, id: TransferId) -> State {
        self.record(id).await.state
    }

    pub async fn exists(&self, id: TransferId) -> bool {
        self.ledger.load(id).await.unwrap().is_some()
    }

    /// Ends a running attempt because it was told to.
    pub async fn stopped(&self, id: TransferId, epoch: u64, reason: StopReason) {
        self.ledger.release(EXECUTOR, id, epoch, &Outcome::Stopped { reason }).await.unwrap();
    }

    /// Ends a running attempt with a failure.
    pub async fn fails(&self, id: TransferId, epoch: u64, error: Error) {
        self.ledger.release(EXECUTOR, id, epoch, &Outcome::Failed { error }).await.unwrap();
    }

    /// Writes a record as no command would, to see what the store makes of it.
    pub async fn overwrite(&self, record: &TransferRecord) {
        let commit = Commit::new().put(crate::ledger::keys::transfer(record.id), encode_record(record));
        self.store.commit(commit).await.unwrap();
    }
}

pub async fn open(store: SharedStore, seal: Seal, environment: Arc<Stub>) -> Ledger {
    let config = LedgerConfig {
        lease: LEASE,
        heartbeat: Duration::from_secs(5),
        ready_timeout: READY,
        backoff: Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) },
        own_host: "own".parse().unwrap(),
        own_executor: true,
        takes_hosts_in: true,
        outage_max: Duration::from_secs(1800),
        credentials: ConfiguredCredentials::default(),
    };
    Ledger::open(store, seal, Registry::new().with(StubProtocol), config, environment).await.unwrap()
}

/// A report that the first `bytes` of the object are durable.
pub fn report(bytes: u64) -> CheckpointReport {
    let range = VerifiedRange { range: ByteRange::new(0, bytes).unwrap(), crc32: 7 };
    CheckpointReport {
        ranges: if bytes == 0 { Vec::new() } else { vec![range] },
        bytes_total: Some(LENGTH),
        validator: Some(Validator::Constant { size: LENGTH, seed: None }),
        bytes_fetched: bytes,
        bytes_from_peers: 0,
        upload: None,
        started_over: None,
        stages: StageTimes { open_us: 2, ..StageTimes::default() },
    }
}

/// The whole object.
pub fn completion() -> Completion {
    Completion {
        bytes_total: LENGTH,
        crc32: Some(0x1234_5678),
        bytes_fetched: LENGTH,
        bytes_from_peers: 0,
        identity: Some(Identity { device: 1, inode: 2 }),
        stages: StageTimes { read_us: 1, ..StageTimes::default() },
    }
}

/// The code of a refusal, or what else came.
pub fn problem<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> ProblemCode {
    match result {
        Err(LedgerError::Problem(problem)) => problem.code,
        other => panic!("no problem: {other:?}"),
    }
}

pub fn is_refused<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Refused(_)))
}

/// Storage that exists on paper only: `stub://HOST/PATH`, either side, with a secret option and a plain one.
struct StubProtocol;

impl Protocol for StubProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["stub"]
    }

    fn capabilities(&self) -> Capabilities {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec { name: "token", secret: true, help: "opens the door" },
            OptionSpec { name: "plain.*", secret: false, help: "anything" },
        ];
        Capabilities { source: true, destination: true, takes: Takes::Anywhere, runtimes: &[], options: OPTIONS }
    }

    fn secrecy(&self) -> Secrecy {
        Secrecy { sent_to_url: true, harmless: &["plain.*"] }
    }

    fn check_source(&self, _: &ObjectUrl, _: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn check_destination(&self, _: &ObjectUrl, _: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn open_source<'a>(
        &'a self,
        _: &'a SourceRequest,
        _: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        unreachable!("the ledger looks at no storage")
    }

    fn begin(&self, _: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        unreachable!("the ledger looks at no storage")
    }

    fn sweep(&self, _: &SweepRequest) -> Result<(), Error> {
        unreachable!("the ledger looks at no storage")
    }
}
