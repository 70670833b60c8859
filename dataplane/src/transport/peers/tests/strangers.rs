//! Those who shall not get anything, or shall not keep others from it; and ways that damage what goes over them.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use staccato_protocols::{conformance::sample, contract::Overwrite};

use super::Host;
use crate::{
    attempt::{Outcome, TransportChoice},
    transport::{
        authority::Authority,
        peers::{Refusals, VISITS_EACH_MAX},
    },
};

/// A way to an owner on which a bit of what it says changes, in so many connections, a MiB from their start.
fn damaging(owner: SocketAddr, times: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(times));
    let to_do = left.clone();
    // Its threads end with its connections.
    thread::spawn(move || {
        for reader in listener.incoming().map_while(Result::ok) {
            let Ok(owner) = TcpStream::connect(owner) else { return };
            let (from, to) = (reader.try_clone().unwrap(), owner.try_clone().unwrap());
            thread::spawn(move || forward(from, to, &AtomicUsize::new(0)));
            let to_do = to_do.clone();
            thread::spawn(move || forward(owner, reader, &to_do));
        }
    });
    (address, left)
}

fn forward(mut from: TcpStream, mut to: TcpStream, damages: &AtomicUsize) {
    const AT: usize = 1 << 20;
    let (mut buffer, mut moved) = (vec![0; 64 << 10], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if (moved..moved + read).contains(&AT)
            && damages.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            buffer[AT - moved] ^= 0x10;
        }
        moved += read;
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

#[test]
fn bytes_that_changed_on_their_way_are_fetched_again_and_never_written() {
    let authority = Authority::new();
    for plain in [true, false] {
        let (owner, reader) = (Host::start("a", &authority, plain), Host::start("b", &authority, plain));
        let bytes = sample("image", (20 << 20) + 12_345);
        owner.write("image", &bytes);
        let (way, left) = damaging(owner.address(), 2);
        let tcp = (plain, TransportChoice::Tcp);
        let outcome = reader.fetch_by(&owner, way, "image", "copy", tcp, Overwrite::Always);
        let Outcome::Committed(completion) = outcome else { panic!("{outcome:?}") };
        assert_eq!(left.load(Ordering::SeqCst), 0, "it was damaged");
        assert!(reader.read("copy") == bytes, "the same bytes");
        assert_eq!(completion.crc32, Some(crc32fast::hash(&bytes)));
    }
}

#[test]
fn whoever_is_turned_away_is_counted() {
    let ours = Authority::new();
    let owner = Host::start("a", &ours, false);
    owner.write("image", b"bytes");
    let refused = || owner.dataplane.refusals().not_allowed;
    let began = Instant::now();
    let count = |by: &Host, plain: bool, transport: TransportChoice| {
        let before = refused();
        let outcome = by.fetch_by(&owner, owner.address(), "image", "copy", (plain, transport), Overwrite::Always);
        let Outcome::Failed { .. } = outcome else { panic!("it is refused") };
        // An owner hears of it when its reader has gone already.
        while refused() == before {
            assert!(began.elapsed() < Duration::from_secs(30), "it is counted");
            thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!(owner.dataplane.refusals(), Refusals::default());
    let theirs = Authority::new();
    let (chain, key) = theirs.issue("b");
    // One of another deployment does not believe the owner; one that does is not believed.
    let strangers = [theirs.identity("b"), ours.identity_with(chain, key)];
    for stranger in strangers {
        let stranger = Host::start_as("b", stranger, false);
        count(&stranger, false, TransportChoice::Tcp);
        count(&stranger, false, TransportChoice::Quic);
    }
    // Of ours, but plain.
    count(&Host::start("b", &ours, true), true, TransportChoice::Tcp);
    assert_eq!(owner.dataplane.refusals().too_many, 0);
}

#[test]
fn a_thousand_that_say_nothing_keep_nobody_out() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let authority = Authority::new();
    let (owner, reader) = (Host::start("a", &authority, false), Host::start("b", &authority, false));
    let bytes = sample("image", 5 << 20);
    owner.write("image", &bytes);
    let fetch = |name: &str| {
        let outcome = reader.fetch(&owner, "image", name, false);
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        assert!(reader.read(name) == bytes);
    };
    fetch("before");
    let (began, resident) = (Instant::now(), resident_bytes());
    let mut silent: Vec<_> = (0..1000).map(|_| TcpStream::connect(owner.address()).unwrap()).collect();
    fetch("meanwhile");
    eprintln!("{} KiB for a thousand", (resident_bytes().saturating_sub(resident)) >> 10);
    // Of one address, so many and no more.
    let more: Vec<_> = (0..200).map(|_| TcpStream::connect(owner.address()).unwrap()).collect();
    while owner.dataplane.refusals().too_many < (1200 - VISITS_EACH_MAX) as u64 {
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", owner.dataplane.refusals());
        thread::sleep(Duration::from_millis(50));
    }
    // None of them stays.
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let read = stream.read(&mut [0]);
        assert!(read.as_ref().is_ok_and(|read| *read == 0), "{read:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    drop(more);
    fetch("after");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
