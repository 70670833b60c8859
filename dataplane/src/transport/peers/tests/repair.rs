//! What one executor has, another repairs: only what differs travels.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use staccato_protocols::{CRC_BLOCK, conformance::sample, contract::Overwrite};

use super::Host;
use crate::{
    attempt::{Completion, Outcome, TransportChoice},
    transport::authority::Authority,
};

/// Everything that is said around the bytes themselves, greetings and TLS included.
const TALK_MAX: u64 = 100_000;

/// A way to an owner on which the bytes are counted that come from it. Its threads end with its connections.
struct Meter {
    address: SocketAddr,
    moved: Arc<AtomicU64>,
}

impl Meter {
    fn before(owner: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let moved = Arc::new(AtomicU64::new(0));
        let counted = moved.clone();
        thread::spawn(move || {
            for reader in listener.incoming().map_while(Result::ok) {
                let Ok(owner) = TcpStream::connect(owner) else { return };
                let (from, to) = (reader.try_clone().unwrap(), owner.try_clone().unwrap());
                thread::spawn(move || forward(from, to, &AtomicU64::new(0)));
                let counted = counted.clone();
                thread::spawn(move || forward(owner, reader, &counted));
            }
        });
        Self { address, moved }
    }

    fn take(&self) -> u64 {
        self.moved.swap(0, Ordering::SeqCst)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, moved: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        moved.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn only_blocks_that_differ_travel() {
    let authority = Authority::new();
    for plain in [true, false] {
        let (owner, reader) = (Host::start("a", &authority, plain), Host::start("b", &authority, plain));
        let meter = Meter::before(owner.address());
        let bytes = sample("image", (40 << 20) + 12_345);
        owner.write("image", &bytes);
        let repair = || -> Completion {
            let outcome = reader.fetch_by(
                &owner,
                meter.address,
                "image",
                "copy",
                (plain, TransportChoice::Tcp),
                Overwrite::Repair,
            );
            let Outcome::Committed(completion) = outcome else { panic!("{outcome:?}") };
            assert!(reader.read("copy") == bytes, "the same bytes");
            assert_eq!(completion.crc32, Some(crc32fast::hash(&bytes)));
            completion
        };
        // Nothing is there; all of it is; a byte differs; it is too long, and too short.
        assert_eq!(repair().bytes_fetched, bytes.len() as u64);
        assert!(meter.take() > bytes.len() as u64);
        assert_eq!(repair().bytes_fetched, 0);
        let moved = meter.take();
        assert!(moved < TALK_MAX, "{moved} bytes for nothing");

        let mut flipped = bytes.clone();
        flipped[17 << 20] ^= 1;
        let longer = [&flipped[..], b"more"].concat();
        for old in [&flipped[..], &longer] {
            reader.write("copy", old);
            assert_eq!(repair().bytes_fetched, CRC_BLOCK);
            let moved = meter.take();
            assert!((CRC_BLOCK..CRC_BLOCK + TALK_MAX).contains(&moved), "{moved} bytes for a block");
        }
        reader.write("copy", &bytes[..20 << 20]);
        assert_eq!(repair().bytes_fetched, bytes.len() as u64 - (20 << 20));
    }
}

#[test]
fn a_small_object_travels_at_once_but_not_where_it_may_be_right_already() {
    const BYTES: u64 = 200_000;
    let authority = Authority::new();
    let (owner, reader) = (Host::start("a", &authority, true), Host::start("b", &authority, true));
    let meter = Meter::before(owner.address());
    let bytes = sample("small", BYTES as usize);
    owner.write("small", &bytes);
    let fetch = |overwrite| {
        let by = (true, TransportChoice::Tcp);
        let outcome = reader.fetch_by(&owner, meter.address, "small", "copy", by, overwrite);
        let Outcome::Committed(completion) = outcome else { panic!("{outcome:?}") };
        assert!(reader.read("copy") == bytes, "the same bytes");
        (completion.bytes_fetched, meter.take())
    };
    let (fetched, moved) = fetch(Overwrite::Never);
    assert!(fetched == BYTES && (BYTES..BYTES + TALK_MAX).contains(&moved), "{fetched}, {moved}");
    let (fetched, moved) = fetch(Overwrite::Repair);
    assert!(fetched == 0 && moved < TALK_MAX, "{fetched}, {moved} for nothing");
}
