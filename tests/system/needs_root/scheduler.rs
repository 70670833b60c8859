//! README's "Write a scheduler in Python", word for word.

use std::{fs, path::Path};

use staccato_tests::binary::staccato;

use super::two_hosts::{blocks, run_apart, text};

#[test]
fn the_readme_shows_transfers_that_run_in_the_order_of_a_scheduler_in_python() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let script = blocks(&fs::read_to_string(repository.join("README.md")).unwrap(), "Write a scheduler in Python");
    let plugin = "scheduler-plugins/examples/link_budget.py";
    assert!(script.contains("target/release/staccato") && script.contains(plugin), "{script}");
    let script = script.replace("target/release/staccato", &staccato().display().to_string());
    let output = run_apart(&script.replace(plugin, &repository.join(plugin).display().to_string()));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let behind = |word: &'static str| said.lines().filter_map(move |line| line.strip_prefix(word)).map(str::trim);
    let shown: Vec<_> = behind("destination").map(|url| url.rsplit('/').next().unwrap()).collect();
    assert_eq!(shown, ["first.raw", "second.raw", "fourth.raw", "third.raw"], "{said}");
    let started: Vec<_> = behind("started").collect();
    assert!(started.len() == 4 && started[..3].iter().all(|before| *before < started[3]), "{said}");
    for reason in ["1 of 2 from 127.0.0.1 to here", "2 of 2 from 127.0.0.1 to here", "1 of 2 from here to here"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    assert!(!said.contains("slots decides") && !said.contains("ERROR"), "{said}");
}
