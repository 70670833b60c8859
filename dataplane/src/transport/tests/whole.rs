//! Small objects, which come as a whole with the answer to their opening.

use std::{
    fs,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use staccato_protocols::{
    Access, ByteRange, CRC_BLOCK, Code, Error, Lane, ObjectUrl, Protocol as _, Runtime, Source,
    conformance::{self, Made, SourceHarness, on_lane, sample},
    contract::SharedProtocol,
};

use super::{
    super::{
        frame::{Content, Frame, VERSIONS, WHOLE_BYTES_MAX},
        idle,
        remote::RemoteProtocol,
        tcp::Tcp,
    },
    Host, Ticketed, Way, control_key, encoded,
    misbehaviour::liar,
    request, ticket,
};

/// An owner whose small objects are asked for as a whole.
struct ShortOnesWhole(Rc<Host>);

impl SourceHarness for ShortOnesWhole {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(Ticketed { short_ones_whole: true, ..self.0.ticketed() })
    }

    fn make(&self, name: &str, len: usize) -> Made {
        self.0.make(name, len)
    }

    fn change(&self, made: &Made) -> bool {
        self.0.change(made)
    }

    fn missing(&self) -> Option<ObjectUrl> {
        self.0.missing()
    }
}

#[test]
fn objects_of_another_executor_conform_where_short_ones_come_as_a_whole() {
    for way in [Way::Plain, Way::tls(), Way::quic()] {
        conformance::check_source(Rc::new(ShortOnesWhole(Host::start_on(way))), Runtime::Glommio);
    }
}

fn open(host: &Host, lane: &Lane, url: &ObjectUrl) -> impl Future<Output = Result<Rc<dyn Source>, Error>> {
    let ticket = ticket(url).sign(&control_key());
    let module = RemoteProtocol::new(host.way.transport(host.address), ticket).with_short_ones_whole();
    let request = request(url);
    async move { module.open_source(&request, lane).await }
}

#[test]
fn small_objects_are_a_question_each_and_hold_no_connection() {
    let host = Host::start();
    let longest = WHOLE_BYTES_MAX as usize;
    let made: Vec<_> = [0, 1, 65_536, longest].map(|len| host.make(&len.to_string(), len)).into();
    let zeros = Made { url: host.url("zeros"), bytes: vec![0; 5_000] };
    fs::write(Host::path(&zeros.url), &zeros.bytes).unwrap();
    let longer = host.make("longer", longest + 1);
    on_lane(Runtime::Glommio, async move |lane| {
        let mut all = Vec::new();
        for made in made.into_iter().chain([zeros]) {
            all.push((open(&host, &lane, &made.url).await.unwrap(), made));
        }
        assert_eq!(host.accepted.load(Ordering::Relaxed), 1, "all of them came over one connection");
        for (source, made) in &all {
            let size = made.bytes.len() as u64;
            assert_eq!(source.object().size, Some(size));
            // Nothing of it is at its owner any more, and nobody has to be asked.
            fs::remove_file(Host::path(&made.url)).unwrap();
            for (start, end) in [(0, size), (size / 3, size / 2)].into_iter().filter(|(start, end)| start < end) {
                let chunk = source.read(ByteRange::new(start, end).unwrap(), &lane.pool).await.unwrap();
                assert_eq!(&chunk.bytes().unwrap()[..chunk.len()], &made.bytes[start as usize..end as usize]);
                assert_eq!(chunk.block_crcs(), [crc32fast::hash(&made.bytes[start as usize..end as usize])]);
            }
            let outside = source.read(ByteRange::new(size, size + 1).unwrap(), &lane.pool).await;
            assert_eq!(outside.err().map(|error| error.code), Some(Code::RangeOutsideObject));
            source.revalidate().await.unwrap();
        }
        let source = open(&host, &lane, &longer.url).await.unwrap();
        fs::remove_file(Host::path(&longer.url)).unwrap();
        let error = source.revalidate().await.unwrap_err();
        assert_eq!(error.code, Code::SourceChanged, "its owner is asked");
        source.close().await;
    });
}

#[test]
fn of_a_small_object_a_ticket_allows_no_more_than_its_part() {
    let host = Host::start();
    let made = host.make("a", 1_000);
    on_lane(Runtime::Glommio, async move |lane| {
        let part = super::Ticket { range: ByteRange::new(100, 200).unwrap(), ..ticket(&made.url) };
        let transport = host.way.transport(host.address);
        let module = RemoteProtocol::new(transport, part.sign(&control_key())).with_short_ones_whole();
        let error = module.open_source(&request(&made.url), &lane).await.err().unwrap();
        assert_eq!((error.code, host.owner.refused()), (Code::PermissionDenied, 1));
        open(&host, &lane, &made.url).await.unwrap();
    });
}

#[test]
fn whoever_says_something_else_than_a_whole_object_is_not_believed() {
    let hello = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };
    let bytes = sample("liar", 10);
    let right = crc32fast::hash(&bytes);
    let opened = |size| Frame::Opened { request: 1, size, validator: None, access: Access::Random };
    let chunk = |end, crc| {
        let range = ByteRange::new(0, end).unwrap();
        Frame::Chunk { request: 1, range, content: Content::Data(vec![crc]) }
    };
    let valid = |request| encoded(&[Frame::Valid { request }]);
    let said = |size, chunk, valid: Vec<u8>| [encoded(&[opened(size), chunk]), bytes.clone(), valid].concat();
    let hear = |says: Vec<u8>| {
        let (address, thread) = liar(&hello, vec![vec![], says]);
        let heard = on_lane(Runtime::Glommio, async move |lane| {
            let module = RemoteProtocol::new(Arc::new(Tcp::plain(address)), Vec::new()).with_short_ones_whole();
            let opened = module.open_source(&request(&ObjectUrl::parse("file:///a").unwrap()), &lane).await.map(drop);
            // The liar waits for the end of the connection.
            idle::forget_all();
            opened
        });
        thread.join().unwrap();
        heard
    };
    hear(said(Some(10), chunk(10, right), valid(1))).unwrap();
    let changed = encoded(&[Frame::Refused { request: 1, error: Error::source_changed("it changed") }]);
    for (lie, says, code) in [
        ("another CRC", said(Some(10), chunk(10, !right), valid(1)), Code::ProtocolViolation),
        ("more than there is", said(Some(9), chunk(10, right), valid(1)), Code::ProtocolViolation),
        ("less than there is", said(Some(11), chunk(10, right), valid(1)), Code::ProtocolViolation),
        ("no bytes", [encoded(&[opened(Some(10))]), valid(1)].concat(), Code::ProtocolViolation),
        ("another question's answer", said(Some(10), chunk(10, right), valid(2)), Code::ProtocolViolation),
        ("no end", said(Some(10), chunk(10, right), vec![]), Code::ConnectionLost),
        ("it changed meanwhile", said(Some(10), chunk(10, right), changed), Code::SourceChanged),
    ] {
        assert_eq!(hear(says).map_err(|error| error.code), Err(code), "{lie}");
    }
}
