//! Destinations that take a stream, or parts: the example takes bytes anywhere.

use super::*;
use crate::{
    CRC_BLOCK, Chunk,
    contract::{CommitError, Found, Overwrite, WriteShape, Writes},
};

/// Keeps what is written in memory, and puts it where the test looks when it is committed.
fn script(destination: &str) -> Script {
    Script::new(&format!(
        r#"
say({{**hello, "source": None, "destination": "{destination}", "resumes": {resumes}}})
start = asked()
trace = sys.argv[0] + ".trace"
got = {{}}
while True:
    it = asked()
    answer = {{"id": it.get("id")}}
    if it["do"] == "begin" and it["upload"]: answer["found"] = "partial"
    elif it["do"] == "writes": answer.update(part_bytes=2 << 20, upload="u1") if "{destination}" == "parts" else None
    elif it["do"] == "write": got[it["offset"]] = os.pread(start["area"]["descriptor"], it["length"], it["at"])
    elif it["do"] == "kept": answer["kept"] = [[0, 2 << 20]]
    elif it["do"] == "noted": answer["crcs"] = [[0, 7]]
    elif it["do"] == "commit": open(trace, "wb").write(b"".join(got[at] for at in sorted(got)))
    if answer["id"]: say(answer)
"#,
        resumes = if destination == "parts" { "True" } else { "False" },
    ))
}

fn request(upload: Option<&str>) -> DestinationRequest {
    DestinationRequest {
        url: ObjectUrl::parse("test:///object").unwrap(),
        options: Options::new(),
        transfer: "t".into(),
        epoch: 1,
        overwrite: Overwrite::Never,
        resume: true,
        upload: upload.map(str::to_owned),
        prepared: None,
        interrupt: Interrupt::default(),
    }
}

async fn chunk(lane: &Lane, len: usize) -> Chunk {
    let mut chunk = lane.pool.take(len).await;
    chunk.buffer_mut().unwrap()[..len].fill(b'x');
    chunk
}

#[test]
fn a_stream_comes_in_order_and_has_its_zeros() {
    let script = script("in_order");
    with(script.meet(), async |module, lane| {
        let mut session = module.begin(&request(None)).unwrap();
        let (bytes, zeros) = (6 << 20, 5 << 20);
        assert_eq!(session.writes(Some(bytes + zeros)), Ok(Writes::InOrder));
        let destination = session.open_on_lane(WriteShape { aligned: true }).unwrap()(&lane).await.unwrap();
        destination.write(0, chunk(&lane, bytes as usize).await).await.unwrap();
        destination.write(bytes, Chunk::zero(zeros as usize)).await.unwrap();
        destination.close().await;
        session.commit().unwrap();
        let expected = [vec![b'x'; bytes as usize], vec![0; zeros as usize]].concat();
        assert!(fs::read(script.trace()).unwrap() == expected);
    });
}

#[test]
fn parts_are_gone_on_with_as_far_as_they_are_kept() {
    let script = script("parts");
    with(script.meet(), async |module, lane| {
        let mut session = module.begin(&request(None)).unwrap();
        assert_eq!((session.found(), session.load_block_crcs(9)), (Found::Nothing, Ok(BTreeMap::new())));
        assert_eq!(session.writes(Some(5 << 20)), Ok(Writes::Parts { bytes: 2 << 20, streamed: false }));
        assert_eq!(session.upload().as_deref(), Some("u1"));
        let destination = session.open_on_lane(WriteShape { aligned: true }).unwrap()(&lane).await.unwrap();
        for part in [1, 0] {
            destination.write(part * 2 * CRC_BLOCK, chunk(&lane, 2 << 20).await).await.unwrap();
        }
        destination.close().await;
        drop(session);
        let mut session = module.begin(&request(Some("u1"))).unwrap();
        assert_eq!(session.found(), Found::Partial);
        assert_eq!(session.load_block_crcs(9), Ok(BTreeMap::from([(0, 7)])));
        let range = |start: u64, end: u64| ByteRange::new(start << 20, end << 20).unwrap();
        assert_eq!(session.kept(&[range(0, 4)]), Ok(vec![range(0, 2)]));
        let error = session.kept(&[range(2, 4)]).unwrap_err();
        assert_eq!(error.code, Code::ProtocolViolation, "it kept what was not promised: {error}");
    });
}

#[test]
fn of_a_commit_that_is_not_answered_nobody_knows_whether_it_was_done() {
    let script = script("in_order");
    let mut plan = script.plan();
    let text = fs::read_to_string(&script.program).unwrap();
    fs::write(
        &script.program,
        text.replace(r#"elif it["do"] == "commit":"#, r#"elif it["do"] == "commit": sys.exit();"#),
    )
    .unwrap();
    plan.patience.answer = IMPATIENCE;
    with(PluginProtocol::meet(plan).unwrap(), async |module, _lane| {
        let mut session = module.begin(&request(None)).unwrap();
        assert!(matches!(session.commit(), Err(CommitError::Unknown(_))));
    });
}
