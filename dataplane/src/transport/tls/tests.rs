//! Who may talk to whom, and streams of any sizes.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use glommio::{LocalExecutorBuilder, net::TcpListener};

use super::*;
use crate::transport::{
    authority::{Authority, DAY_MS, DAYS},
    tcp::{Tcp, accept, accept_tls},
};

/// What came of a connection, at the reader's end and at the owner's.
struct Met {
    reader: Result<(), Error>,
    owner: io::Result<KeyDigest>,
}

fn on_glommio<T: 'static>(test: impl AsyncFnOnce() -> T + 'static) -> T {
    LocalExecutorBuilder::default().make().unwrap().run(async move { test().await })
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A reader that looks for `wanted` meets an owner; each says a word.
async fn meet(reader: &Identity, wanted: &str, owner: &Identity) -> Met {
    let (listener, address) = listen().await;
    let owning = async {
        let (stream, _) = accept(&listener).await?;
        let (mut stream, key) = accept_tls(stream, owner).await?;
        stream.write_all(b"word").await?;
        stream.flush().await?;
        Ok(key)
    };
    let reading = async {
        let transport = Tcp::secure(address, wanted, reader.clone());
        let mut stream = crate::transport::remote::Transport::connect(&transport).await?.stream;
        let mut word = [0; 4];
        let heard = stream.read_exact(&mut word).await;
        heard.map_err(|error| Error::retry(Code::TlsFailed, error.to_string()))
    };
    let (reader, owner) = join(reading, owning).await;
    Met { reader, owner }
}

#[test]
fn executors_of_one_deployment_meet_and_know_one_another() {
    on_glommio(async || {
        let authority = Authority::new();
        let (a, b) = (authority.identity("a"), authority.identity("b.example.org"));
        let met = meet(&a, "b.example.org", &b).await;
        assert_eq!(met.reader, Ok(()));
        assert_eq!(met.owner.unwrap(), a.key_digest());
        assert_ne!(a.key_digest(), b.key_digest());
    });
}

#[test]
fn strangers_are_refused_at_both_ends() {
    on_glommio(async || {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let (a, b) = (ours.identity("a"), ours.identity("b"));
        // Another name, another CA at either end, and whoever shows a certificate of ours with a key of its own.
        let refused = meet(&a, "c", &b).await.reader.unwrap_err();
        assert!(refused.message.contains("not valid for name \"c\""), "{refused}");
        let met = meet(&a, "b", &theirs.identity("b")).await;
        assert!(met.reader.unwrap_err().message.contains("invalid peer certificate") && met.owner.is_err());
        let met = meet(&theirs.identity("a"), "b", &b).await;
        assert!(met.reader.is_err() && met.owner.is_err());
        let (chain, _) = ours.issue("b");
        let (_, other_key) = ours.issue("b");
        let time: ControlTime = Box::new(|| 0);
        let mixed = Identity::new(chain, other_key, std::slice::from_ref(&ours.root), Arc::new(time));
        assert_eq!(mixed.err().map(|error| error.code), Some(Code::TlsFailed));
        assert_eq!(meet(&a, "b", &b).await.reader, Ok(()));
    });
}

#[test]
fn certificates_end_by_the_control_planes_clock_and_can_be_renewed() {
    on_glommio(async || {
        let authority = Authority::new();
        let (a, b) = (authority.identity("a"), authority.identity("b"));
        let day = |day: i64| authority.now_ms.store(day as u64 * DAY_MS, Ordering::Relaxed);
        for outside in [DAYS.0 - 1, DAYS.1 + 1] {
            day(outside);
            let met = meet(&a, "b", &b).await;
            assert!(met.reader.is_err() && met.owner.is_err(), "day {outside}");
        }
        day(DAYS.1);
        assert_eq!(meet(&a, "b", &b).await.reader, Ok(()));
        let before = a.key_digest();
        let (chain, key) = authority.issue("a");
        a.renew(chain, key).unwrap();
        assert_ne!(a.key_digest(), before);
        assert_eq!(meet(&a, "b", &b).await.owner.unwrap(), a.key_digest());
    });
}

#[test]
fn whoever_does_not_speak_tls_or_says_nothing_is_let_go() {
    on_glommio(async || {
        let authority = Authority::new();
        let owner = authority.identity("a");
        for word in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xFF, 0xFF], &[0; 40_000]] {
            let (listener, address) = listen().await;
            let shouting = async {
                let mut stream = glommio::net::TcpStream::connect(address).await.unwrap();
                let _ = stream.write_all(word).await;
                let _ = stream.shutdown(std::net::Shutdown::Write).await;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
            };
            let serving = async {
                let (stream, _) = accept(&listener).await.unwrap();
                accept_tls(stream, &owner).await.map(|(_, key)| key)
            };
            let ((), served) = join(shouting, serving).await;
            assert!(served.is_err());
        }
    });
}

#[test]
fn bytes_come_as_they_went_in_pieces_of_any_size_both_ways_at_once() {
    on_glommio(async || {
        let authority = Authority::new();
        let (a, b) = (authority.identity("a"), authority.identity("b"));
        let mut random = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(5 << 20).collect();
        let (listener, address) = listen().await;
        let (reading, accepting) = (
            async { a.connect(Box::new(glommio::net::TcpStream::connect(address).await.unwrap()), "b").await.unwrap() },
            async {
                let (stream, _) = accept(&listener).await.unwrap();
                accept_tls(stream, &b).await.unwrap().0
            },
        );
        let (here, there) = join(reading, accepting).await;
        let ends = [here, there].map(|stream| {
            let (mut from, mut to) = stream.split();
            let bytes = bytes.clone();
            let mut sizes = fastrand::Rng::with_seed(random.u64(..));
            async move {
                let mut piece = move || 1 << sizes.usize(0..22);
                let mut reads = fastrand::Rng::with_seed(11);
                let writing = async {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at(piece().min(rest.len()));
                        to.write_all(now).await.unwrap();
                        rest = later;
                    }
                    to.flush().await.unwrap();
                };
                let receiving = async {
                    let mut got = Vec::new();
                    let mut buffer = vec![0; 1 << 20];
                    while got.len() < bytes.len() {
                        let most = 1 << reads.usize(0..21);
                        let read = from.read(&mut buffer[..most]).await.unwrap();
                        assert!(read > 0);
                        got.extend_from_slice(&buffer[..read]);
                    }
                    got
                };
                let ((), got) = join(writing, receiving).await;
                assert!(got == bytes);
            }
        });
        let [one, other] = ends;
        join(one, other).await;
    });
}

#[test]
fn a_connection_that_is_cut_off_is_no_end() {
    on_glommio(async || {
        let authority = Authority::new();
        let (a, b) = (authority.identity("a"), authority.identity("b"));
        let (listener, address) = listen().await;
        let serving = async {
            let (stream, _) = accept(&listener).await.unwrap();
            let (mut stream, _) = accept_tls(stream, &b).await.unwrap();
            stream.write_all(b"abc").await.unwrap();
            stream.flush().await.unwrap();
        };
        let reading = async {
            let stream = Box::new(glommio::net::TcpStream::connect(address).await.unwrap());
            let mut stream = a.connect(stream, "b").await.unwrap();
            let mut all = Vec::new();
            let ended = stream.read_to_end(&mut all).await;
            (all, ended.map_err(|error| error.kind()))
        };
        let ((all, ended), ()) = join(reading, serving).await;
        assert_eq!((&all[..], ended), (&b"abc"[..], Err(io::ErrorKind::UnexpectedEof)));
    });
}
