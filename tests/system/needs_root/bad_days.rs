//! Two hosts with a path between them that delays and loses, goes away, carries no UDP, or swallows long packets.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;
use staccato_bench::relay::Conditions;
use staccato_tests::bytes::{MIB, random};

use super::path::{PATH, Two};

#[test]
fn losses_of_up_to_five_percent_and_packets_out_of_order_cost_time_only() {
    for (loss, len) in [(0.001, 24 * MIB), (0.05, 4 * MIB)] {
        let path = Conditions { loss, reordering: 0.01, duplication: 0.01, jitter: Duration::from_millis(2), ..PATH };
        Two::with(path, |two, _| {
            let bytes = random(11, len + 17);
            for transport in ["quic", "tcp", "auto"] {
                let id = two.submit(transport, &bytes, json!({"transport": transport}));
                let document = two.complete(&id, transport, &bytes);
                assert_eq!(document["attempts"], 1, "{transport} {loss}: {document:#}");
            }
        });
    }
}

/// For ten seconds; `TEST_OUTAGE_S` makes it longer, as the soak does: five minutes.
#[test]
fn a_network_that_goes_away_costs_the_time_that_it_is_away() {
    let away = Duration::from_secs(std::env::var("TEST_OUTAGE_S").map_or(10, |text| text.parse().expect("seconds")));
    Two::with(PATH, |two, weather| {
        for transport in ["quic", "tcp"] {
            let bytes = random(12, 48 * MIB + 3);
            let id = two.submit(transport, &bytes, json!({"transport": transport, "rate_limit": 8 << 20}));
            two.deployment.service.wait_for_progress(&id, 8 * MIB as u64);
            weather.cut(true);
            sleep(away);
            weather.cut(false);
            let back = Instant::now();
            let document = two.complete(&id, transport, &bytes);
            // 40 MiB at 8 MiB/s were left at most, what was fetched is not fetched again, and waits between attempts grow
            // with the time that they were in vain.
            let patience = Duration::from_secs(40) + away / 2;
            assert!(back.elapsed() < patience, "{transport}: {:?} {document:#}", back.elapsed());
            let again = document["bytes_fetched"].as_u64().unwrap() - bytes.len() as u64;
            assert!(again < 40 * MIB as u64, "{transport}: {again} bytes twice: {document:#}");
        }
    });
}

#[test]
fn where_udp_does_not_pass_tcp_is_taken_and_it_is_said_why() {
    Two::with(PATH, |two, weather| {
        weather.block_udp(true);
        // Long enough for both to have their trial.
        let bytes = random(13, 96 * MIB);
        let id = two.submit("auto", &bytes, json!({}));
        let document = two.complete(&id, "auto", &bytes);
        assert_eq!(document["attempts"], 1, "{document:#}");
        let link = two.deployment.link("far", "head").expect("the link is known");
        assert_eq!(link["transport"], "tcp", "{link:#}");
        assert!(link["reason"].as_str().unwrap().contains("quic has failed"), "{link:#}");
        let id = two.submit("quic", b"bytes", json!({"transport": "quic", "retries": 0}));
        assert_eq!(two.deployment.service.failure(&id), "connect_failed");
    });
}

#[test]
fn long_packets_that_vanish_do_not_stop_a_transfer() {
    Two::with(PATH, |two, weather| {
        weather.swallow_longer_than(1300);
        let bytes = random(14, 6 * MIB);
        for transport in ["quic", "auto"] {
            let id = two.submit(transport, &bytes, json!({"transport": transport}));
            two.complete(&id, transport, &bytes);
        }
        // Also where they begin to vanish on the way.
        weather.swallow_longer_than(usize::MAX);
        let bytes = random(15, 32 * MIB);
        let id = two.submit("later", &bytes, json!({"transport": "quic", "rate_limit": 8 << 20}));
        two.deployment.service.wait_for_progress(&id, 8 * MIB as u64);
        weather.swallow_longer_than(1300);
        two.complete(&id, "later", &bytes);
    });
}
