//! README's "One image, many hosts", word for word, and the demonstration of it.

use std::{fs, path::Path};

use staccato_tests::{
    binary::{command, staccato},
    service::{names, scratch},
};

use super::two_hosts::{blocks, run_apart, text};

#[test]
fn the_readme_brings_one_image_to_many_hosts_word_for_word() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let script = blocks(&fs::read_to_string(readme).unwrap(), "One image, many hosts");
    assert!(script.contains("staccato distribute") && script.contains("--preheat"), "{script}");
    let output = run_apart(&script.replace("target/release/staccato", &staccato().display().to_string()));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.matches("STATE_COMPLETE").count() >= 3, "{said}");
    for words in ["3/3", "4 (4 done, 0 failed", "in rack r2, pool=blue", "tomorrow.raw", "\"bytes_between_peers\":"] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
}

#[test]
fn the_demo_of_eight_hosts_brings_an_image_to_all_while_a_seed_and_the_service_die() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let mut demo = command();
    demo.args(["demo", "--hosts", "8", "--size", "48", "--rate", "12"]).env("TMPDIR", folder.path());
    let output = demo.output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("network namespace"), "{said}");
    assert!(said.contains("\nAll 8 hosts have the image byte for byte"), "{said}");
    assert!(names(folder.path()).is_empty(), "nothing is left");
}
