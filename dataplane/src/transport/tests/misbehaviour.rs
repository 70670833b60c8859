//! Peers that break the protocol: owners that lie, and readers that send nonsense or never come to an end.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use staccato_protocols::{
    ByteRange, CRC_BLOCK, Code, Disposition, Error, ObjectUrl, Protocol as _, Runtime,
    conformance::{SourceHarness as _, on_lane, sample},
};

use super::{
    super::{
        frame::{Content, Frame, VERSIONS},
        patience::{Pace, SLOWEST},
        remote::RemoteProtocol,
        serve::Patience,
        tcp::Tcp,
    },
    Host, Way, control_key, encoded, request, ticket,
};

/// An owner that greets so, and then answers each frame with these bytes, whatever it was.
pub fn liar(hello: &Frame, says: Vec<Vec<u8>>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let greeting = encoded(std::slice::from_ref(hello));
    let run = move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Whoever comes again is refused: it would wait to be accepted otherwise, and be reset.
        drop(listener);
        stream.write_all(&greeting).unwrap();
        let (mut heard, mut scrap) = (Vec::new(), vec![0; 4096]);
        for answer in says {
            let taken = loop {
                if let Some((_, len)) = Frame::decode(&heard).unwrap() {
                    break len;
                }
                match stream.read(&mut scrap) {
                    Ok(read) if read > 0 => heard.extend(&scrap[..read]),
                    _ => return,
                }
            };
            heard.drain(..taken);
            let _ = stream.write_all(&answer);
        }
        // Once everything is said, nothing more comes.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut heard);
    };
    (address, thread::spawn(run))
}

/// What comes of reading ten bytes from a liar.
fn read_from_liar(hello: &Frame, says: Vec<Vec<u8>>) -> Error {
    let (address, thread) = liar(hello, says);
    let read = on_lane(Runtime::Glommio, async move |lane| {
        let module = RemoteProtocol::new(Arc::new(Tcp::plain(address)), Vec::new());
        let source = module.open_source(&request(&ObjectUrl::parse("file:///a").unwrap()), &lane).await?;
        source.read(ByteRange::new(0, 10).unwrap(), &lane.pool).await.map(drop)
    });
    thread.join().unwrap();
    read.expect_err("a liar is not believed")
}

#[test]
fn owners_of_another_format_are_not_tried_again() {
    for (versions, crc_block) in [((9, 9), 1 << 20), (VERSIONS, 4096)] {
        let error = read_from_liar(&Frame::Hello { versions, crc_block }, vec![]);
        assert_eq!((error.code, error.disposition), (Code::ProtocolViolation, Disposition::Fatal), "{error}");
    }
}

#[test]
fn what_an_owner_asks_for_is_bounded() {
    let hello = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };
    let refused = |error| vec![vec![], encoded(&[Frame::Refused { request: 1, error }])];
    let long = Error::retry(Code::ReadFailed, "later").after(Duration::from_millis(u64::MAX));
    let after = Some(Duration::from_secs(3600));
    assert_eq!(read_from_liar(&hello, refused(long)).disposition, Disposition::Retry { after });
    assert_eq!(read_from_liar(&hello, refused(Error::canceled())).code, Code::ConnectionLost);
}

/// Whoever tells the CRCs of something else, or too few, is not believed.
#[test]
fn sums_that_were_not_asked_for_are_no_answer() {
    let hello = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };
    let access = staccato_protocols::Access::Random;
    let opened = Frame::Opened { request: 1, size: Some(3 * CRC_BLOCK), validator: None, access };
    let summed = |request, start, end| {
        let range = ByteRange::new(start, end).unwrap();
        let crcs = vec![5; range.len().div_ceil(CRC_BLOCK) as usize];
        Frame::Summed { request, range, crcs }
    };
    let told = |answer: Frame| {
        let (address, thread) = liar(&hello, vec![encoded(std::slice::from_ref(&opened)), encoded(&[answer])]);
        let told = on_lane(Runtime::Glommio, async move |lane| {
            let module = RemoteProtocol::new(Arc::new(Tcp::plain(address)), Vec::new());
            let source = module.open_source(&request(&ObjectUrl::parse("file:///a").unwrap()), &lane).await?;
            let wanted = ByteRange::new(0, 2 * CRC_BLOCK).unwrap();
            source.sums().expect("objects of others have sums").crcs(wanted, &lane.pool).await
        });
        thread.join().unwrap();
        told
    };
    assert_eq!(told(summed(2, 0, 2 * CRC_BLOCK)), Ok(vec![5, 5]));
    let lies = [
        summed(3, 0, 2 * CRC_BLOCK),
        summed(2, CRC_BLOCK, 3 * CRC_BLOCK),
        summed(2, 0, CRC_BLOCK),
        summed(2, 0, 2 * CRC_BLOCK - 1),
        Frame::Valid { request: 2 },
    ];
    for lie in lies {
        let error = told(lie.clone()).expect_err("a liar is not believed");
        assert_eq!(error.code, Code::ProtocolViolation, "{lie:?}: {error}");
    }
}

#[test]
fn an_owner_that_breaks_the_protocol_is_not_believed() {
    let hello = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };
    let opened = |request| Frame::Opened {
        request,
        size: Some(3 * CRC_BLOCK),
        validator: None,
        access: staccato_protocols::Access::Random,
    };
    let chunk =
        |request, start, end, content| Frame::Chunk { request, range: ByteRange::new(start, end).unwrap(), content };
    let ten = |crc| chunk(2, 0, 10, Content::Data(vec![crc]));
    let right = crc32fast::hash(&[5; 10]);
    // What the owner answers to the greeting, to the opening and to the fetch of ten bytes, and what that is.
    let lies: Vec<(&str, Frame, Vec<Vec<u8>>, Code)> = vec![
        ("no greeting", Frame::Pong { nonce: 1 }, vec![], Code::ProtocolViolation),
        ("no frames", hello.clone(), vec![vec![], vec![b'x'; 100]], Code::ProtocolViolation),
        ("closes", hello.clone(), vec![vec![]], Code::ConnectionLost),
        ("another question's answer", hello.clone(), vec![vec![], encoded(&[opened(7)])], Code::ProtocolViolation),
        (
            "bytes under another CRC",
            hello.clone(),
            vec![vec![], encoded(&[opened(1)]), [encoded(&[ten(!right)]), vec![5; 10]].concat()],
            Code::ProtocolViolation,
        ),
        (
            "other bytes under the right CRC",
            hello.clone(),
            vec![vec![], encoded(&[opened(1)]), [encoded(&[ten(right)]), vec![6; 10]].concat()],
            Code::ProtocolViolation,
        ),
        (
            "bytes of elsewhere",
            hello.clone(),
            vec![vec![], encoded(&[opened(1)]), encoded(&[chunk(2, 5, 10, Content::Zero)])],
            Code::ProtocolViolation,
        ),
        (
            "more than was asked for",
            hello.clone(),
            vec![vec![], encoded(&[opened(1)]), encoded(&[chunk(2, 0, 11, Content::Zero)])],
            Code::ProtocolViolation,
        ),
        (
            "a frame longer than any",
            hello.clone(),
            vec![vec![], [&[0, 0, 2, 0, 3][..], &vec![0; 1 << 20]].concat()],
            Code::ProtocolViolation,
        ),
        ("a frame that does not end", hello.clone(), vec![vec![0, 0, 1, 0, 3, 0, 0, 0]], Code::ConnectionLost),
        ("heads without end", hello.clone(), vec![vec![], vec![0; 4 << 20]], Code::ProtocolViolation),
        (
            "questions without end",
            hello.clone(),
            vec![encoded(&vec![Frame::Ping { nonce: 1 }; 100_000])],
            Code::ProtocolViolation,
        ),
        (
            "answers without end",
            hello.clone(),
            vec![vec![], encoded(&vec![Frame::Valid { request: 1 }; 100_000])],
            Code::ProtocolViolation,
        ),
        (
            "half of a chunk",
            hello.clone(),
            vec![vec![], encoded(&[opened(1)]), [encoded(&[ten(right)]), vec![5; 4]].concat()],
            // It is asked once more over a new connection, and is not there any more.
            Code::ConnectFailed,
        ),
    ];
    for (lie, hello, says, code) in lies {
        let error = read_from_liar(&hello, says);
        assert_eq!((error.code, error.is_retryable()), (code, true), "{lie}: {error}");
    }
}

#[test]
fn a_reader_that_sends_nonsense_ends_its_own_connection_only() {
    let host = Host::start();
    let made = host.make("a", 100);
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &encoded(&[Frame::Pong { nonce: 1 }])] {
        let mut stream = std::net::TcpStream::connect(host.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut answer = Vec::new();
        // Its greeting, then the end.
        let _ = stream.read_to_end(&mut answer);
        assert!(matches!(Frame::decode(&answer), Ok(Some((Frame::Hello { .. }, len))) if len == answer.len()));
    }
    // Idle connections cost others nothing.
    let idle: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(host.address).unwrap()).collect();
    on_lane(Runtime::Glommio, async move |lane| {
        let ticket = ticket(&made.url).sign(&control_key());
        let source = host.open(&lane, &made.url, &ticket).await.unwrap();
        let chunk = source.read(ByteRange::new(0, 100).unwrap(), &lane.pool).await.unwrap();
        assert_eq!(chunk.bytes(), Some(&made.bytes[..]));
        source.close().await;
    });
    drop(idle);
}

/// What a reader says that greets, opens an object and asks for its first bytes.
fn asks_for(url: &ObjectUrl, bytes: u64) -> Vec<u8> {
    let hello = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };
    let (ticket, pinned) = (ticket(url).sign(&control_key()), None);
    let open =
        Frame::Open { request: 1, object: 1, ticket, url: url.as_str().into(), pinned, aligned: false, whole_up_to: 0 };
    let range = ByteRange::new(0, bytes).unwrap();
    encoded(&[hello, open, Frame::Fetch { request: 2, object: 1, range }])
}

/// Nothing stands still, and yet nothing moves: it gets what the kernel has taken already, and the rest of a piece.
#[test]
fn a_reader_that_takes_a_byte_now_and_then_is_let_go() {
    const BYTES: usize = 48 << 20;
    let answer = Pace { grace: Duration::from_secs(1), bytes_per_s: 100 << 20 };
    let host = Host::start_with(Patience { answer, ..Patience::default() });
    let url = host.url("slow");
    fs::write(Host::path(&url), sample("slow", BYTES)).unwrap();
    let mut stream = std::net::TcpStream::connect(host.address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 << 10).unwrap();
    stream.write_all(&asks_for(&url, BYTES as u64)).unwrap();
    for _ in 0..40 {
        stream.read_exact(&mut [0]).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(rest.len() < BYTES / 2, "{} bytes were sent", rest.len());
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it ends");
    // Whoever reads on is served to the end.
    let mut stream = std::net::TcpStream::connect(host.address).unwrap();
    stream.write_all(&asks_for(&url, BYTES as u64)).unwrap();
    let mut all = vec![0; BYTES];
    stream.read_exact(&mut all).unwrap();
}

#[test]
fn readers_that_never_come_to_the_end_of_a_question_are_let_go() {
    let second = Duration::from_secs(1);
    let host = Host::start_with(Patience { greeting: second, question: second, answer: SLOWEST });
    let hello = encoded(&[Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 }]);
    // The longest frame there may be, a byte at a time; a head, over and over; nothing, at first and behind a greeting.
    let endless = [&hello[..], &[0, 0, 1, 0, 2, 0, 0, 0]].concat();
    let pings = [hello.clone(), encoded(&vec![Frame::Ping { nonce: 1 }; 50])].concat();
    for (says, at_once) in [(&endless, hello.len()), (&pings, hello.len()), (&hello, hello.len()), (&hello, 0)] {
        let mut stream = std::net::TcpStream::connect(host.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.write_all(&says[..at_once]).unwrap();
        let mut rest = says[at_once..].iter().copied().chain(std::iter::repeat(0));
        let silent = says.len() == hello.len();
        let began = std::time::Instant::now();
        let gone = |read: std::io::Result<usize>| match read {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        while !gone(stream.read(&mut [0; 100])) {
            assert!(began.elapsed() < 8 * second, "it holds on");
            if !silent {
                let _ = stream.write_all(&[rest.next().unwrap()]);
            }
        }
        assert!(began.elapsed() >= second / 2, "{:?}", began.elapsed());
    }
}

#[test]
fn an_owner_that_says_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    on_lane(Runtime::Glommio, async move |lane| {
        let ways = [Way::Plain, Way::tls()];
        let given_up = ways.map(async |way| {
            let began = std::time::Instant::now();
            let module = RemoteProtocol::new(way.transport(address), Vec::new());
            let opened = module.open_source(&request(&ObjectUrl::parse("file:///a").unwrap()), &lane).await;
            (opened.err().map(|error| (error.code, error.is_retryable())), began.elapsed().as_secs())
        });
        let given_up = join_all(given_up).await;
        let codes: Vec<_> = given_up.iter().map(|(error, _)| *error).collect();
        assert_eq!(codes, [Some((Code::Stalled, true)), Some((Code::TlsFailed, true))]);
        assert!(given_up.iter().all(|(_, seconds)| (9..16).contains(seconds)), "{given_up:?}");
    });
    drop(listener);
}
