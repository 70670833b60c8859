//! How fast the interface answers while a distribution of 1,000 members is under way on executors that only pretend.
//!
//! The target, p99 below 50 ms, is for a build with optimisation; this prints the figure, and holds a build without to a
//! bound that shows a change for the worse.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use staccato_dataplane::attempt::{CheckpointReport, StageTimes, VerifiedRange};
use staccato_protocols::ByteRange;

use super::driver::{Driver, transfer};
use crate::{
    ledger::{INDEXES, Ledger},
    model::State,
    store::SledStore,
};

const MEMBERS: usize = 1_000;
const ROUNDS: usize = 150;
const BOUND: Duration = if cfg!(debug_assertions) { Duration::from_millis(250) } else { Duration::from_millis(50) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_members_slow_nobody_down() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Driver::over(Arc::new(SledStore::open(folder.path(), INDEXES).unwrap())).await;
    driver.join(MEMBERS).await;
    let body = json!({
        "source_url": "http://127.0.0.1:9/x", "destination_url": "file://{host}/data/x", "hosts": {"percent": 100},
    });
    // The service's own host is one of them, too.
    let began = Instant::now();
    let made = driver.post("/v1/distributions", &body).await;
    let making = began.elapsed();
    assert_eq!(made.status, 201, "{}", made.text());
    let path = made.header("location").unwrap().to_owned();
    let total = made.json()["hosts"]["total"].as_u64().unwrap();
    assert!(total as usize >= MEMBERS, "{total}");
    let all = format!("{path}/members?limit=10000");
    let members = driver.look_until(&all, |members| members.as_array().unwrap().len() as u64 == total).await;
    let whole = began.elapsed();

    // All of them run, and tell of a checkpoint again and again.
    let ledger = driver.ledger.clone();
    let mut running = Vec::new();
    for member in members.as_array().unwrap() {
        let host = member["host"].as_str().unwrap();
        let Some(number) = host.strip_prefix('h').filter(|number| number.parse::<usize>().is_ok()) else { continue };
        let id = member["transfer"].as_str().unwrap().parse().unwrap();
        assert!(ledger.mark_ready(id, "now").await.unwrap());
        let executor = format!("i{number}@{host}");
        let epoch = ledger.claim(&executor, 1).await.unwrap().pop().unwrap().epoch;
        running.push((executor, id, epoch));
    }
    let pretending = tokio::spawn(pretend(ledger, running));

    let (mut gets, mut posts) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for path in
            [path.clone(), "/v1/distributions".into(), format!("{path}/members?limit=50&state={}", State::Running)]
        {
            let began = Instant::now();
            assert_eq!(driver.get(&path).await.status, 200);
            gets.push(began.elapsed());
        }
        let began = Instant::now();
        assert_eq!(driver.post("/v1/transfers", &transfer(&format!("other-{round}"))).await.status, 201);
        posts.push(began.elapsed());
    }
    let reports = pretending.await.unwrap();
    let shown = driver.get(&path).await.json();
    assert_eq!(shown["hosts"]["running"], MEMBERS, "{shown:#}");
    assert!(shown["progress"].as_u64().unwrap() > 0 && shown["slowest"].is_object(), "{shown:#}");
    let (get, post) = (percentile(&mut gets), percentile(&mut posts));
    println!(
        "{MEMBERS} members: answered after {making:?}, all made after {whole:?}; beside {reports} checkpoints, p99 of GET \
         {get:?}, of POST {post:?}"
    );
    assert!(get < BOUND && post < BOUND, "p99 of GET {get:?}, of POST {post:?}; at most {BOUND:?}");
}

/// Reports a checkpoint of one member after the other, until all have had some; how many.
async fn pretend(ledger: Ledger, running: Vec<(String, crate::model::TransferId, u64)>) -> usize {
    let mut reports = 0;
    for round in 1..=3u64 {
        for (executor, id, epoch) in &running {
            let range = VerifiedRange { range: ByteRange::new(0, round << 20).unwrap(), crc32: 0 };
            let report = CheckpointReport {
                ranges: vec![range],
                bytes_total: Some(8 << 20),
                validator: None,
                bytes_fetched: round << 20,
                bytes_from_peers: 0,
                upload: None,
                started_over: None,
                stages: StageTimes::default(),
            };
            ledger.checkpoint(executor, *id, *epoch, &report).await.unwrap();
            reports += 1;
        }
    }
    reports
}

fn percentile(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}
