//! Stretches: several chunks with one request.

use super::*;

const CHUNK: usize = 256 << 10;

async fn read_on(source: &Rc<dyn Source>, chunk: usize, stretch_end: usize, lane: &Lane) -> Result<Vec<u8>, Error> {
    let range = ByteRange::new((chunk * CHUNK) as u64, ((chunk + 1) * CHUNK) as u64).unwrap();
    let chunk = source.read_on(range, (stretch_end * CHUNK) as u64, &lane.pool).await?;
    Ok(chunk.bytes().expect("http has no holes").to_vec())
}

/// Reads a stretch of four chunks from a page, chunk by chunk.
fn read_stretch(page: Page, bytes: &[u8]) -> HttpServer {
    let server = HttpServer::start();
    server.put("/x", page);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        for chunk in 0..4 {
            let read = read_on(&source, chunk, 4, &lane).await.unwrap();
            assert!(read == bytes[chunk * CHUNK..(chunk + 1) * CHUNK]);
        }
        source.close().await;
    });
    server
}

#[test]
fn a_stretch_comes_with_one_request() {
    let bytes = sample("stretch", 5 * CHUNK);
    let server = read_stretch(Page::new(bytes.clone()), &bytes);
    let ranges: Vec<_> = server.seen().iter().map(|request| request.headers["range"].clone()).collect();
    assert_eq!(ranges, ["bytes=0-0".to_owned(), format!("bytes=0-{}", 4 * CHUNK - 1)]);
}

#[test]
fn what_a_server_gave_up_meanwhile_is_asked_for_again_and_no_more() {
    let bytes = sample("given up", 4 * CHUNK);
    let server = read_stretch(Page::new(bytes.clone()).trick(1..2, Trick::CloseAfter(2 * CHUNK + 1000)), &bytes);
    let ranges: Vec<_> = server.seen().iter().map(|request| request.headers["range"].clone()).collect();
    let behind = format!("bytes={}-{}", 2 * CHUNK, 4 * CHUNK - 1);
    assert_eq!(ranges[2..], [behind], "{ranges:?}");
}

#[test]
fn a_server_that_gives_up_the_next_answer_too_has_failed() {
    let server = HttpServer::start();
    let page = Page::new(sample("gives up", 4 * CHUNK));
    server.put("/x", page.trick(1..2, Trick::CloseAfter(CHUNK + 1000)).trick(2.., Trick::CloseAfter(1000)));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        read_on(&source, 0, 4, &lane).await.unwrap();
        assert_error(&failure(read_on(&source, 1, 4, &lane).await), Code::ConnectionLost, RETRY);
        source.close().await;
    });
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn what_is_left_of_an_answer_is_dropped_where_its_stretch_ends_earlier_than_was_thought() {
    let (server, bytes) = (HttpServer::start(), sample("cut", 4 * CHUNK));
    server.put("/x", Page::new(bytes.clone()));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        for (chunk, end) in [(0, 4), (1, 2), (2, 4), (3, 4)] {
            assert!(read_on(&source, chunk, end, &lane).await.unwrap() == bytes[chunk * CHUNK..(chunk + 1) * CHUNK]);
        }
        source.close().await;
    });
    assert_eq!(server.seen().len(), 3, "the third chunk is asked for anew");
}

#[test]
fn what_a_request_costs_is_what_the_server_takes_for_its_answer() {
    let server = HttpServer::start();
    server.put("/x", Page::new("some bytes"));
    server.program(|_| {
        std::thread::sleep(Duration::from_millis(80));
        None
    });
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        let cost = source.request_cost();
        assert!((Duration::from_millis(60)..Duration::from_secs(2)).contains(&cost), "{cost:?}");
        source.close().await;
    });
}
