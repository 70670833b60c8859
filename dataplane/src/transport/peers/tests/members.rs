//! Executors that fetch one object from its source and from one another.

use std::{net::SocketAddr, thread};

use super::*;
use crate::{
    attempt::{
        StopReason,
        swarm::{Key, KnownObject, SwarmPeer, SwarmSpec},
    },
    swarm::seeds::{Seeds, Share},
};

const MIB: u64 = 1 << 20;

/// What a member is told: the others, and its share of the source, which `owner` has.
fn member(hosts: &[Host], index: usize, seeds: u32, owner: &Host) -> AttemptSpec {
    let host = &hosts[index];
    let spec = host.spec(owner, owner.address(), "image", "copy", (false, TransportChoice::Tcp));
    let ticket = Ticket {
        transfer: "t".into(),
        epoch: 1,
        url: "swarm://n".into(),
        range: ByteRange::new(0, u64::MAX).unwrap(),
        reader: host.identity.key_digest(),
        until_ms: 2_000,
    };
    let is_seed = (index as u32) < seeds;
    let mut rights = Seeds::new(seeds as usize, 2000);
    for seed in 0..seeds.into() {
        rights.begin(seed, |_| u64::MAX, |_| true);
    }
    let swarm = SwarmSpec {
        distribution: "d".into(),
        name: "n".into(),
        member: index as u64,
        keep: true,
        chunk_bytes: MIB,
        object: None,
        ticket: SignedTicket(ticket.sign(&control_key())),
        peers: (0..hosts.len()).filter(|other| *other != index).map(|other| peer(hosts, other)).collect(),
        may_vouch: hosts[..seeds as usize].iter().map(|seed| Key(seed.identity.key_digest())).collect(),
        share: rights.share(index as u64),
        upload_limit: None,
        begin_anew: false,
    };
    AttemptSpec { swarm: Some(swarm), owner: spec.owner.clone().filter(|_| is_seed), ..spec }
}

fn peer(hosts: &[Host], index: usize) -> SwarmPeer {
    let (host, tcp): (_, SocketAddr) = (hosts[index].name.to_owned(), hosts[index].address());
    SwarmPeer { member: index as u64, host, tcp, quic: Vec::new(), plain: false, near: false }
}

fn start(names: &[&'static str], authority: &Authority) -> Vec<Host> {
    names.iter().map(|name| Host::start(name, authority, false)).collect()
}

/// Runs all of them at a time; bytes that were read of the source.
fn run_all(hosts: &[Host], specs: Vec<AttemptSpec>, bytes: &[u8]) -> u64 {
    let outcomes: Vec<_> = thread::scope(|scope| {
        let run = |(host, spec): (_, AttemptSpec)| scope.spawn(move || Host::run(host, spec));
        let running: Vec<_> = hosts.iter().zip(specs).map(run).collect();
        running.into_iter().map(|running| running.join().unwrap()).collect()
    });
    let mut from_source = 0;
    for (host, outcome) in hosts.iter().zip(outcomes) {
        let Outcome::Committed(done) = outcome else { panic!("{}: {outcome:?}", host.name) };
        from_source += done.bytes_fetched - done.bytes_from_peers;
        assert!(host.read("copy") == bytes, "{}: the same bytes", host.name);
    }
    from_source
}

#[test]
fn seeds_read_what_they_may_of_the_source_and_the_rest_of_one_another() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", (24 << 20) + 12_345);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b", "c"], &authority);
    let specs = (0..3).map(|index| member(&hosts, index, 3, &owner)).collect();
    // Once, where none of them is late; what is another one's, when it seems to be.
    let from_source = run_all(&hosts, specs, &bytes);
    assert!((bytes.len() as u64..=2 * bytes.len() as u64).contains(&from_source), "{from_source}");
}

#[test]
fn members_that_may_not_read_the_source_have_everything_from_a_seed() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", (9 << 20) + 1);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b"], &authority);
    let specs = (0..2).map(|index| member(&hosts, index, 1, &owner)).collect();
    assert_eq!(run_all(&hosts, specs, &bytes), bytes.len() as u64);
    // A late one finds what others have shown since they committed it.
    let late = start(&["late"], &authority).remove(0);
    let all = [&hosts[0], &hosts[1], &late];
    let mut spec = member(&hosts, 1, 1, &owner);
    let swarm = spec.swarm.as_mut().unwrap();
    swarm.member = 2;
    swarm.peers = vec![peer(&hosts, 0), peer(&hosts, 1)];
    let ticket = Ticket {
        transfer: "t".into(),
        epoch: 1,
        url: "swarm://n".into(),
        range: ByteRange::new(0, u64::MAX).unwrap(),
        reader: all[2].identity.key_digest(),
        until_ms: 2_000,
    };
    swarm.ticket = SignedTicket(ticket.sign(&control_key()));
    spec.destination_url = late.url("copy");
    let Outcome::Committed(done) = late.run(spec) else { panic!("it is committed") };
    assert_eq!(done.bytes_from_peers, bytes.len() as u64);
    assert!(late.read("copy") == bytes);
}

#[test]
fn who_has_another_version_is_not_read_from() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", 5 << 20);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b"], &authority);
    let specs = (0..2).map(|index| member(&hosts, index, 2, &owner)).collect();
    run_all(&hosts, specs, &bytes);
    // The same name, and another object: what the first two have is of no use to anybody.
    let other = sample("other", 5 << 20);
    owner.write("image", &other);
    let third = start(&["c"], &authority).remove(0);
    let mut spec = member(&hosts, 0, 1, &owner);
    spec.destination_url = third.url("copy");
    let fresh = third.spec(&owner, owner.address(), "image", "copy", (false, TransportChoice::Tcp));
    spec.owner = fresh.owner;
    let swarm = spec.swarm.as_mut().unwrap();
    swarm.member = 2;
    swarm.may_vouch = vec![Key(third.identity.key_digest())];
    swarm.peers = vec![peer(&hosts, 0), peer(&hosts, 1)];
    let Outcome::Committed(done) = third.run(spec) else { panic!("it reads the source itself") };
    assert_eq!(done.bytes_from_peers, 0);
    assert!(third.read("copy") == other);
}

#[test]
fn whoever_sends_damaged_chunks_is_caught_and_the_others_are_asked() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", 12 << 20);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b", "c"], &authority);
    let specs = |hosts: &[Host]| (0..2).map(|index| member(hosts, index, 1, &owner)).collect::<Vec<_>>();
    run_all(&hosts[..2], specs(&hosts), &bytes);
    // What lies there is not what was written any more: every chunk has a byte that is another.
    let path = hosts[1].folder.path().join("copy");
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    (0..12).for_each(|chunk| std::os::unix::fs::FileExt::write_all_at(&file, b"!", chunk * MIB + 77).unwrap());
    file.sync_all().unwrap();
    let Outcome::Committed(done) = hosts[2].run(member(&hosts, 2, 1, &owner)) else { panic!("it is committed") };
    assert_eq!(done.bytes_from_peers, bytes.len() as u64);
    assert!(hosts[2].read("copy") == bytes);
}

#[test]
fn whoever_says_that_it_has_everything_and_gives_nothing_is_left_for_others_and_for_the_source() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", 12 << 20);
    owner.write("image", &bytes);
    let hosts = start(&["a", "liar", "c", "d"], &authority);
    let specs = |hosts: &[Host]| (0..2).map(|index| member(hosts, index, 1, &owner)).collect::<Vec<_>>();
    run_all(&hosts[..2], specs(&hosts), &bytes);
    // Its lanes read nothing of it any more; what it tells is as before.
    let liar = hosts[1].dataplane.inner.peers.as_ref().unwrap().peers();
    let offer = liar.offers().get("n/1").unwrap();
    liar.withdraw("n/1");
    liar.offers().add(offer);
    let Outcome::Committed(done) = hosts[2].run(member(&hosts, 2, 1, &owner)) else { panic!("it is committed") };
    assert_eq!(done.bytes_from_peers, bytes.len() as u64);
    assert!(hosts[2].read("copy") == bytes);
    // Where nobody else is there, the source is.
    let mut alone = member(&hosts, 3, 4, &owner);
    let swarm = alone.swarm.as_mut().unwrap();
    let mut rights = Seeds::new(1, 2000);
    rights.begin(3, |_| u64::MAX, |_| true);
    swarm.share = rights.share(3);
    swarm.peers = vec![peer(&hosts, 1)];
    let Outcome::Committed(done) = hosts[3].run(alone) else { panic!("it is committed") };
    assert_eq!(done.bytes_from_peers, 0);
    assert!(hosts[3].read("copy") == bytes);
}

#[test]
fn a_seed_that_never_comes_is_replaced_by_the_one_behind_it() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", 6 << 20);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b"], &authority);
    let Outcome::Committed(done) = hosts[1].run(member(&hosts, 1, 2, &owner)) else { panic!("it is committed") };
    assert_eq!((done.bytes_fetched, done.bytes_from_peers), (bytes.len() as u64, 0));
    assert!(hosts[1].read("copy") == bytes);
}

#[test]
fn a_seed_that_cannot_reach_the_source_has_everything_from_others() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", (7 << 20) + 5);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b"], &authority);
    run_all(&hosts[..1], vec![member(&hosts, 0, 2, &owner)], &bytes);
    let mut spec = member(&hosts, 1, 2, &owner);
    // Nobody listens there.
    spec.owner.as_mut().unwrap().tcp = "127.0.0.1:1".parse().unwrap();
    let unknown = hosts[1].run(spec.clone());
    assert!(matches!(&unknown, Outcome::Failed { error } if error.code == Code::ConnectFailed), "{unknown:?}");
    // Once it is known what the object is, others are enough.
    let shown = hosts[0].dataplane.inner.peers.as_ref().unwrap().peers().offers().get("n/0").unwrap();
    let object = KnownObject { size: bytes.len() as u64, validator: shown.object().validator.clone() };
    spec.swarm.as_mut().unwrap().object = Some(object);
    let Outcome::Committed(done) = hosts[1].run(spec) else { panic!("it is committed") };
    assert_eq!(done.bytes_from_peers, bytes.len() as u64);
    assert!(hosts[1].read("copy") == bytes);
}

#[test]
fn what_is_told_of_the_others_before_the_object_is_known_is_not_forgotten() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", 5 << 20);
    owner.write("image", &bytes);
    let hosts = start(&["a", "b"], &authority);
    run_all(&hosts[..1], vec![member(&hosts, 0, 1, &owner)], &bytes);
    // It knows nobody when it begins.
    let told = member(&hosts, 1, 1, &owner);
    let mut alone = told.clone();
    let swarm = alone.swarm.as_mut().unwrap();
    (swarm.peers, swarm.may_vouch) = (Vec::new(), Vec::new());
    let (ended, end) = flume::bounded(1);
    let attempt = hosts[1].dataplane.attempt(alone, |handle| Box::new(Keeper { handle, ended }));
    attempt.refresh(told.swarm.unwrap());
    let outcome = end.recv_timeout(Duration::from_secs(60)).expect("an attempt ends");
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(hosts[1].read("copy") == bytes);
}

#[test]
fn what_was_committed_is_shown_again_by_the_next_process_as_long_as_it_is_what_was_written() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", (4 << 20) + 5);
    owner.write("image", &bytes);
    let mut hosts = start(&["a", "b", "c"], &authority);
    run_all(&hosts[..1], vec![member(&hosts, 0, 1, &owner)], &bytes);
    let again = hosts.remove(0).restart();
    let shown = again.dataplane.offers();
    assert_eq!(shown.iter().map(|copy| copy.key()).collect::<Vec<_>>(), ["n/0"]);
    hosts.insert(0, again);
    let Outcome::Committed(done) = hosts[1].run(member(&hosts, 1, 1, &owner)) else { panic!("it is committed") };
    assert_eq!(done.bytes_from_peers, bytes.len() as u64);
    assert!(hosts[1].read("copy") == bytes);
    // What is no copy any more is not shown, and not known either.
    let changed = hosts.remove(0);
    changed.write("copy", b"something else");
    let changed = changed.restart().restart();
    assert_eq!(changed.dataplane.offers(), []);
    // What nobody wants is not shown by the next one.
    let unwanted = hosts.remove(0);
    unwanted.dataplane.withdraw("n/1");
    assert_eq!(unwanted.restart().dataplane.offers(), []);
}

/// Tells what is durable.
struct Teller {
    handle: AttemptHandle,
    told: flume::Sender<CheckpointReport>,
}

impl Reporter for Teller {
    fn checkpoint(&mut self, report: CheckpointReport) {
        self.handle.reply(Reply::Checkpointed);
        // Whoever has heard enough does not listen.
        let _ = self.told.send(report);
    }

    fn prepare(&mut self, _completion: Completion) {}

    fn finished(self: Box<Self>, _outcome: Outcome) {}
}

fn watch(host: &Host, spec: AttemptSpec) -> (AttemptHandle, flume::Receiver<CheckpointReport>) {
    let (told, reports) = flume::unbounded();
    (host.dataplane.attempt(spec, |handle| Box::new(Teller { handle, told })), reports)
}

fn bytes_in(report: &CheckpointReport) -> u64 {
    report.ranges.iter().map(|known| known.range.len()).sum()
}

#[test]
fn who_goes_on_from_a_checkpoint_shows_what_is_in_it() {
    let authority = Authority::new();
    let owner = Host::start("owner", &authority, false);
    let bytes = sample("image", 8 << 20);
    owner.write("image", &bytes);
    let mut hosts = start(&["a", "b"], &authority);
    // Stopped when something is durable.
    let spec = AttemptSpec { rate_limit: Some(2 << 20), ..member(&hosts, 0, 1, &owner) };
    let (first, reports) = watch(&hosts[0], spec.clone());
    let report = reports.iter().find(|report| bytes_in(report) > 0).expect("something is durable");
    first.stop(StopReason::Shutdown);
    let report = reports.into_iter().last().unwrap_or(report);
    let first = hosts.remove(0).restart();
    hosts.insert(0, first);
    // Nobody has the rest, and the source is not read any more: what was durable travels, and nothing else.
    let durable = bytes_in(&report);
    assert!((MIB..bytes.len() as u64).contains(&durable), "{durable}");
    let mut resumed = AttemptSpec { checkpoint: report.ranges, validator: report.validator, epoch: 2, ..spec };
    resumed.rate_limit = None;
    resumed.owner = None;
    let known = KnownObject { size: bytes.len() as u64, validator: resumed.validator.clone() };
    let swarm = resumed.swarm.as_mut().unwrap();
    (swarm.share, swarm.object) = (Share::default(), Some(known.clone()));
    let (resuming, _reports) = watch(&hosts[0], resumed);
    let mut other = member(&hosts, 1, 1, &owner);
    other.swarm.as_mut().unwrap().object = Some(known);
    let (other, reports) = watch(&hosts[1], other);
    let reached = reports.iter().find(|report| bytes_in(report) >= durable).expect("it has what the other one has");
    assert_eq!(bytes_in(&reached), durable);
    resuming.stop(StopReason::Shutdown);
    other.stop(StopReason::Shutdown);
}
