//! Two executors in one process, each with a dataplane of its own: what one has, the other fetches.

mod members;
mod repair;
mod strangers;

use std::{fs, io::Write as _, net::SocketAddr, time::Duration};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use staccato_protocols::{
    ByteRange, Code, ObjectUrl, Options, Registry,
    conformance::sample,
    contract::Overwrite,
    file::{FileProtocol, Root, RootAccess, Roots},
};

use super::PeersConfig;
use crate::{
    Dataplane, DataplaneConfig,
    attempt::{
        AttemptHandle, AttemptSpec, CheckpointReport, Completion, LaneChoice, Outcome, Part, Reply, Reporter,
        SignedTicket, SourceOwner, TransportChoice,
    },
    transport::{authority::Authority, ticket::Ticket, tls::Identity},
};

fn control_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

/// An executor with a folder of its own.
struct Host {
    name: &'static str,
    folder: tempfile::TempDir,
    identity: Identity,
    dataplane: Dataplane,
}

impl Host {
    fn start(name: &'static str, authority: &Authority, plain: bool) -> Self {
        Self::start_as(name, authority.identity(name), plain)
    }

    fn start_as(name: &'static str, identity: Identity, plain: bool) -> Self {
        let executable = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(executable.parent().unwrap()).unwrap();
        Self::start_in(name, identity, plain, folder)
    }

    /// Another process of the same executor.
    fn restart(self) -> Self {
        let Self { name, folder, identity, dataplane } = self;
        drop(dataplane);
        Self::start_in(name, identity, false, folder)
    }

    fn start_in(name: &'static str, identity: Identity, plain: bool, folder: tempfile::TempDir) -> Self {
        let copies = folder.path().join("copies");
        let root = Root::new(folder.path(), RootAccess::ReadWrite).unwrap();
        let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root])));
        let config = DataplaneConfig {
            memory_bytes: 128 << 20,
            lanes: 2,
            lane_choice: LaneChoice::Auto,
            chunk_bytes: 4 << 20,
            attempts_max: 4,
            spool: None,
            among_others: true,
        };
        let peers = PeersConfig {
            identity: identity.clone(),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            quic_ports: None,
            plain,
            ticket_key: control_key().public_key().as_ref().to_vec(),
            control_time: Box::new(|| 1_000),
            copies: Some(copies.to_owned()),
        };
        let dataplane = Dataplane::start_among(config, registry, peers).unwrap();
        Self { name, folder, identity, dataplane }
    }

    fn address(&self) -> SocketAddr {
        self.dataplane.addresses().unwrap().tcp
    }

    fn url(&self, name: &str) -> ObjectUrl {
        let url = url::Url::from_file_path(self.folder.path().join(name)).unwrap();
        ObjectUrl::parse(url.as_str()).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::File::create(self.folder.path().join(name)).unwrap().write_all(bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// Fetches `source` of `owner` into `destination` here.
    fn fetch(&self, owner: &Host, source: &str, destination: &str, plain: bool) -> Outcome {
        self.fetch_by(owner, owner.address(), source, destination, (plain, TransportChoice::Tcp), Overwrite::Always)
    }

    /// The same by way of an address that leads to the owner.
    fn fetch_by(
        &self,
        owner: &Host,
        tcp: SocketAddr,
        source: &str,
        destination: &str,
        way: (bool, TransportChoice),
        overwrite: Overwrite,
    ) -> Outcome {
        self.run(AttemptSpec { overwrite, ..self.spec(owner, tcp, source, destination, way) })
    }

    fn spec(
        &self,
        owner: &Host,
        tcp: SocketAddr,
        source: &str,
        destination: &str,
        (plain, transport): (bool, TransportChoice),
    ) -> AttemptSpec {
        let url = owner.url(source);
        let ticket = Ticket {
            transfer: "t".into(),
            epoch: 1,
            url: url.as_str().into(),
            range: ByteRange::new(0, u64::MAX).unwrap(),
            reader: self.identity.key_digest(),
            until_ms: 2_000,
        };
        AttemptSpec {
            transfer: "0195f7f0-0000-7000-8000-000000000001".into(),
            epoch: 1,
            source_url: url,
            destination_url: self.url(destination),
            source_options: Options::new(),
            destination_options: Options::new(),
            part: Part::default(),
            overwrite: Overwrite::Always,
            checksum: None,
            rate_limit: None,
            chunk_size: None,
            connections: None,
            validator: None,
            checkpoint: Vec::new(),
            upload: None,
            prepared: None,
            transport,
            window: None,
            swarm: None,
            owner: Some(SourceOwner {
                host: owner.name.into(),
                tcp,
                quic: owner.dataplane.addresses().unwrap().quic,
                plain,
                ticket: SignedTicket(ticket.sign(&control_key())),
            }),
        }
    }

    fn run(&self, spec: AttemptSpec) -> Outcome {
        let (ended, end) = flume::bounded(1);
        self.dataplane.attempt(spec, |handle| Box::new(Keeper { handle, ended }));
        end.recv_timeout(Duration::from_secs(60)).expect("an attempt ends")
    }
}

/// Agrees to everything.
struct Keeper {
    handle: AttemptHandle,
    ended: flume::Sender<Outcome>,
}

impl Reporter for Keeper {
    fn checkpoint(&mut self, _report: CheckpointReport) {
        self.handle.reply(Reply::Checkpointed);
    }

    fn prepare(&mut self, _completion: Completion) {
        self.handle.reply(Reply::Prepared { lease_until: Duration::MAX });
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        self.ended.send(outcome).unwrap();
    }
}

#[test]
fn what_one_executor_has_another_fetches() {
    let authority = Authority::new();
    for plain in [false, true] {
        let (owner, reader) = (Host::start("a", &authority, plain), Host::start("b", &authority, plain));
        let bytes = sample("image", (20 << 20) + 12_345);
        owner.write("image", &bytes);
        let outcome = reader.fetch(&owner, "image", "copy", plain);
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        assert!(reader.read("copy") == bytes, "the same bytes");
        // Small ones follow one another on the same connections, and hold none of the owner's objects open.
        for number in 0..50 {
            owner.write("small", &bytes[..1000 + number]);
            let outcome = reader.fetch(&owner, "small", "copy", plain);
            assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
            assert!(reader.read("copy") == bytes[..1000 + number]);
        }
    }
}

#[test]
fn what_one_executor_has_another_fetches_over_quic() {
    let authority = Authority::new();
    let (owner, reader) = (Host::start("a", &authority, false), Host::start("b", &authority, false));
    let bytes = sample("image", (20 << 20) + 12_345);
    let over_quic = (false, TransportChoice::Quic);
    for len in [bytes.len(), 0, 1000, 1001] {
        owner.write("image", &bytes[..len]);
        let outcome = reader.fetch_by(&owner, owner.address(), "image", "copy", over_quic, Overwrite::Always);
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        assert!(reader.read("copy") == bytes[..len]);
    }
    let stranger = Host::start("c", &Authority::new(), false);
    let outcome = stranger.fetch_by(&owner, owner.address(), "image", "copy", over_quic, Overwrite::Always);
    let Outcome::Failed { error } = outcome else { panic!("it is refused") };
    assert!(matches!(error.code, Code::TlsFailed | Code::ConnectionLost), "{error:?}");
}

#[test]
fn how_far_the_owner_is_and_what_is_lost_on_the_way_is_known_whatever_the_transport() {
    let authority = Authority::new();
    for (plain, transport) in
        [(false, TransportChoice::Quic), (true, TransportChoice::Tcp), (false, TransportChoice::Auto)]
    {
        let (owner, reader) = (Host::start("a", &authority, plain), Host::start("b", &authority, plain));
        assert_eq!(reader.dataplane.links(), []);
        owner.write("image", &sample("image", 48 << 20));
        let spec = reader.spec(&owner, owner.address(), "image", "copy", (plain, transport));
        // Slow enough for owners to tell.
        let outcome = reader.run(AttemptSpec { rate_limit: Some(16 << 20), ..spec });
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        let [link] = &reader.dataplane.links()[..] else { panic!("one link") };
        assert_eq!(
            (link.host.as_str(), link.transport.is_some()),
            ("a", transport == TransportChoice::Auto),
            "{link:?}"
        );
        assert!(link.delay_us.is_some_and(|delay| (1..100_000).contains(&delay)), "{link:?}");
        // Over TCP, loopback takes so few packets that no share is told of them.
        assert!(link.loss_ppm.map_or(transport != TransportChoice::Quic, |loss| loss < 10_000), "{link:?}");
        assert_eq!(owner.dataplane.links(), [], "it has read nothing");
    }
}

#[test]
fn whoever_asks_for_tcp_gets_no_connection_that_quic_has_left() {
    let authority = Authority::new();
    let (owner, reader) = (Host::start("a", &authority, false), Host::start("b", &authority, false));
    owner.write("image", b"bytes");
    // One on each lane: both have a connection that waits for the next object.
    for _ in 0..2 {
        let over_quic = (false, TransportChoice::Quic);
        let outcome = reader.fetch_by(&owner, owner.address(), "image", "copy", over_quic, Overwrite::Always);
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
    // The same number of a port, as executors have it unless told; here nobody listens there over TCP.
    let address = owner.dataplane.addresses().unwrap().quic[0];
    for _ in 0..2 {
        let over_tcp = (false, TransportChoice::Tcp);
        let outcome = reader.fetch_by(&owner, address, "image", "copy", over_tcp, Overwrite::Always);
        assert!(matches!(&outcome, Outcome::Failed { error } if error.code == Code::ConnectFailed), "{outcome:?}");
    }
}

#[test]
fn an_owner_that_has_come_back_is_found_again() {
    let authority = Authority::new();
    let reader = Host::start("b", &authority, false);
    let bytes = sample("image", 3 << 20);
    for _ in 0..2 {
        let owner = Host::start("a", &authority, false);
        owner.write("image", &bytes);
        let outcome = reader.fetch(&owner, "image", "copy", false);
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
}

#[test]
fn plain_connections_need_both_ends_and_others_are_not_spoken_to() {
    let authority = Authority::new();
    let (owner, reader) = (Host::start("a", &authority, false), Host::start("b", &authority, true));
    owner.write("image", b"bytes");
    // An executor that says it takes plain connections, and does not.
    let Outcome::Failed { error } = reader.fetch(&owner, "image", "copy", true) else { panic!("it is turned away") };
    assert!(matches!(error.code, Code::ConnectionLost | Code::Stalled), "{error:?}");
    // One of another deployment: its certificate is nobody's here.
    let stranger = Host::start("c", &Authority::new(), false);
    let Outcome::Failed { error } = stranger.fetch(&owner, "image", "copy", false) else { panic!("it is refused") };
    assert!(matches!(error.code, Code::TlsFailed | Code::ConnectionLost), "{error:?}");
    let Outcome::Failed { error } = reader.fetch(&stranger, "image", "copy", false) else { panic!("it is refused") };
    assert_eq!(error.code, Code::TlsFailed, "{error:?}");
}
