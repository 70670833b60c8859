//! What executors tell of the links between them.

use std::time::Duration;

use serde_json::{Value, json};
use staccato_bench::relay::Conditions;
use staccato_tests::{
    bytes::{MIB, random},
    process::eventually,
    service::PATIENCE,
};

use super::path::{PATH, Two};

#[test]
fn delay_and_loss_of_a_link_are_shown_as_they_are() {
    let path = Conditions { delay: Duration::from_millis(25), loss: 0.01, ..PATH };
    for transport in ["tcp", "quic"] {
        Two::with(path, |two, _| {
            let bytes = random(31, 12 * MIB);
            // Slowly, and bit by bit: owners tell readers once a second.
            let more = json!({"transport": transport, "rate_limit": 2 << 20, "chunk_size": 1 << 20});
            let id = two.submit("image", &bytes, more);
            two.complete(&id, "image", &bytes);
            let known = || two.deployment.link("far", "head").filter(|link| link["loss_percent"].is_number());
            let link = eventually(PATIENCE, "the loss is known", known);
            eprintln!("{transport}: {link}");
            let (delay, loss) = figures(&link);
            assert!((45.0..100.0).contains(&delay), "{transport}: {link:#}");
            assert!((0.3..3.0).contains(&loss), "{transport}: {link:#}");
            // Each heartbeat changes them: what the table says is compared where none came meanwhile.
            eventually(PATIENCE, "the table says what the document does", || {
                let (before, line, after) = (known()?, table_line(two), known()?);
                let (delay, loss) = figures(&before);
                let says = line.contains(&format!("delay {delay:.1} ms, loss {loss:.2} %"));
                assert!(says || figures(&after) != (delay, loss), "{line}\n{before:#}");
                says.then_some(())
            });
        });
    }
}

fn figures(link: &Value) -> (f64, f64) {
    (link["delay_ms"].as_f64().unwrap(), link["loss_percent"].as_f64().unwrap())
}

fn table_line(two: &Two<'_>) -> String {
    let table = two.deployment.service.command(&["executors"]);
    let table = String::from_utf8(table.stdout).unwrap();
    table.lines().find(|line| line.contains("reads from head")).expect("a line for the link").to_owned()
}
