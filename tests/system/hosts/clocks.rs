//! Executors whose clocks are wrong by hours.

use std::{fs, time::UNIX_EPOCH};

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    deployment::Deployment,
    wrong_clock,
};

#[test]
fn executors_whose_clocks_are_hours_ahead_and_behind_join_and_move_bytes_with_tickets() {
    // Shorter than the clocks are wrong by; tickets last half an hour.
    let deployment = Deployment::start(&["--certificate-life", "1h"]);
    let hosts = [("ahead", "+20h"), ("behind", "-20h")].map(|(name, by)| {
        let mut host = deployment.host(name, &[]).with_environment(wrong_clock::environment(by));
        host.launch(&deployment, Some(&deployment.invite(name)));
        deployment.wait_until_up(name);
        host
    });
    // The times in their logs are their own.
    let [ahead, behind] = hosts.each_ref().map(|host| {
        let log = host.log();
        log.split_whitespace().find_map(seconds).unwrap_or_else(|| panic!("no time in {log}"))
    });
    let apart = (ahead - behind).abs();
    assert!((39..41).contains(&(apart / 3600)), "{apart} s apart");

    let (service, bytes) = (&deployment.service, random(41, 5 * MIB + 3));
    let [ahead, behind] = &hosts;
    for (from, to) in [(ahead, behind), (behind, ahead)] {
        fs::write(from.path("image"), &bytes).unwrap();
        for transport in ["quic", "tcp"] {
            let more = json!({"transport": transport, "retries": 0});
            let document = service.complete(&service.submit(&from.file("image"), &to.file(transport), more));
            assert!(fs::read(to.path(transport)).unwrap() == bytes, "{document:#}");
            assert_eq!(document["attempts"], 1, "{document:#}");
        }
        let to_head = service.submit(&from.file("image"), &service.file(&from.name), json!({"retries": 0}));
        service.complete(&to_head);
    }
    for host in &hosts {
        let document = deployment.executor(&host.name).unwrap();
        assert_eq!(document["refusals"]["not_allowed"], 0, "{document:#}");
    }
}

/// Seconds since 1970 of a time that a log tells.
fn seconds(word: &str) -> Option<i64> {
    let (begin, end) = (word.find("20")?, word.find('Z')?);
    let time = humantime::parse_rfc3339(word.get(begin..=end)?).ok()?;
    time.duration_since(UNIX_EPOCH).ok()?.as_secs().try_into().ok()
}
