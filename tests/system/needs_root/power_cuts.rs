//! A host whose power is cut: it says nothing any more, not even that it ends. Later it is back.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;
use staccato_bench::relay::weather::Weather;
use staccato_tests::{
    bytes::{MIB, random},
    process::eventually,
};

use super::path::{PATH, Two};

const TRANSPORTS: [&str; 2] = ["quic", "tcp"];
/// How long a host that has gone may be taken for one that is there: 15 s, and the kernel's timers are coarse.
const NOTICED: Duration = Duration::from_secs(20);
/// How long what it runs may be taken to run, with the lease that it has here.
const LET_GO: Duration = Duration::from_secs(10);

/// Cuts the power of `far` and gives it back when that was noticed, and longer than it takes over either transport.
fn cut_power(two: &mut Two<'_>, weather: &Weather, meanwhile: impl FnOnce(&Two<'_>)) {
    assert!(two.connections() > 0, "bytes travel over TCP, too");
    weather.cut(true);
    two.far.kill();
    let cut = Instant::now();
    meanwhile(two);
    eventually(NOTICED, "that it is gone is noticed", || (two.connections() == 0).then_some(()));
    eprintln!("noticed after {:?}", cut.elapsed());
    sleep(NOTICED.saturating_sub(cut.elapsed()));
    weather.cut(false);
    two.launch(None);
}

#[test]
fn a_source_whose_power_was_cut_is_noticed_and_read_on_when_it_is_back() {
    Two::with(PATH, |two, weather| {
        let bytes = random(21, 40 * MIB + 5);
        fs::write(two.far.path("image"), &bytes).unwrap();
        let service = &two.deployment.service;
        let more = |transport| json!({"transport": transport, "rate_limit": 4 << 20, "chunk_size": 1 << 20});
        let ids = TRANSPORTS.map(|name| service.submit(&two.far.file("image"), &service.file(name), more(name)));
        ids.iter().for_each(|id| drop(service.wait_for_progress(id, 4 * MIB as u64)));
        cut_power(two, weather, |_| ());
        let (service, back) = (&two.deployment.service, Instant::now());
        for (id, name) in ids.iter().zip(TRANSPORTS) {
            let document = service.complete(id);
            assert!(service.read(name) == bytes, "{name}: {document:#}");
            let again = document["bytes_fetched"].as_u64().unwrap() - bytes.len() as u64;
            assert!(again < 8 * MIB as u64, "{name}: {again} bytes twice: {document:#}");
        }
        assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
    });
}

#[test]
fn a_destination_whose_power_was_cut_is_noticed_and_written_on_when_it_is_back() {
    Two::with(PATH, |two, weather| {
        let bytes = random(22, 40 * MIB + 5);
        let more = |transport| json!({"transport": transport, "rate_limit": 4 << 20, "chunk_size": 1 << 20});
        let ids = TRANSPORTS.map(|name| two.submit(name, &bytes, more(name)));
        ids.iter().for_each(|id| drop(two.deployment.service.wait_for_progress(id, 4 * MIB as u64)));
        cut_power(two, weather, |two| {
            // Its lease is 3 s. Nobody else has its disk: what it wrote waits for it.
            let let_go = |id| (two.deployment.service.show(id)["state"] != "STATE_RUNNING").then_some(());
            ids.iter().for_each(|id| eventually(LET_GO, "its lease is over", || let_go(id)));
        });
        let back = Instant::now();
        for (id, name) in ids.iter().zip(TRANSPORTS) {
            let document = two.complete(id, name, &bytes);
            let again = document["bytes_fetched"].as_u64().unwrap() - bytes.len() as u64;
            assert!(again < 16 * MIB as u64, "{name}: {again} bytes twice: {document:#}");
        }
        assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
    });
}
