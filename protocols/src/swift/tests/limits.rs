//! Servers that say what they allow, and servers that do not.

use serde_json::{Value, json};

use super::{
    bad_destinations::{attempt, request},
    *,
};
use crate::{
    Code,
    conformance::{on_lane, parts::apart},
    contract::Writes,
    testing::http_server::Reply,
};

const MIB: usize = 1 << 20;

fn says(served: &Served, info: Value) {
    served.store.fault("GET", "/info", usize::MAX, move |_, _, _| Some(Reply::json(200, &info)));
}

#[test]
fn segments_and_manifests_are_as_the_server_allows_and_it_is_asked_once_by_nobody() {
    let served = Served::with_keystone();
    says(&served, json!({"slo": {"max_manifest_segments": 2, "min_segment_size": 2 * MIB}}));
    let bytes = sample("limits", 7 * MIB);
    on_lane(Runtime::TokioUring, async |lane| {
        let mut attempt = attempt(&served, &request(&served), bytes.len(), &lane).await;
        for (index, segment) in bytes.chunks(2 * MIB).enumerate() {
            attempt.write(index * 2 * MIB, segment, &lane).await.expect("it is as long as it has to be");
        }
        attempt.commit(bytes.len()).expect("it is committed");
    });
    assert!(served.store.get("x").unwrap() == bytes);
    let named = served.store.state().containers["c"]["x"].segments.clone().expect("it is a large object");
    assert_eq!(named.len(), 2, "two manifests of two segments: {named:?}");
    let asked: Vec<_> = served.server.seen().into_iter().filter(|seen| seen.target == "/info").collect();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("x-auth-token"));
}

#[test]
fn without_an_answer_the_defaults_hold() {
    for reply in [Reply::new(401), Reply::new(404), Reply::new(200).body("<html>"), Reply::new(500)] {
        let served = Served::start();
        served.store.fault("GET", "/info", usize::MAX, move |_, _, _| Some(reply.clone()));
        let mut session = served.protocol().begin(&request(&served)).unwrap();
        assert_eq!(session.writes(Some(5)), Ok(Writes::Parts { bytes: MIB as u64, streamed: true }));
    }
}

#[test]
fn what_fits_into_no_limits_is_refused_before_a_byte_is_sent() {
    let served = Served::start();
    says(&served, json!({"slo": {"max_manifest_segments": 1}, "swift": {"max_file_size": 3 * MIB}}));
    let mut session = apart(|| served.protocol().begin(&request(&served))).unwrap();
    let error = apart(|| session.writes(Some(4 * MIB as u64))).unwrap_err();
    assert_eq!(error.code, Code::WriteFailed);
    assert!(error.message.contains("limits"), "{error}");
    assert_eq!(served.store.left_overs(), [""; 0]);
}
