//! The commands that show and compare results, and a small sweep, as a user runs them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_staccato-bench")).current_dir(folder).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// On a disk of its own kind: file systems in memory need not take O_DIRECT.
fn scratch() -> tempfile::TempDir {
    let beside = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::tempdir_in(beside).unwrap()
}

const SWEEP: &str =
    "pairs = 5\n[sweep]\nsource = [\"zero\", \"file\"]\ndestination = \"null\"\nsize_mib = 2\nchunk_mib = [1, 2]";

#[test]
fn a_sweep_goes_on_where_it_was_interrupted_and_its_results_are_shown_and_compared() {
    let scratch = scratch();
    let folder = scratch.path();
    fs::write(folder.join("sweep.toml"), SWEEP).unwrap();
    let matrix = ["matrix", "sweep.toml", "--output", "a.jsonl", "--html", "a.html"];
    let output = bench(folder, &matrix);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("zero-to-null (memory as found, size 2 MiB)"), "{}", said(&output));
    let results = fs::read_to_string(folder.join("a.jsonl")).unwrap();
    assert_eq!(results.lines().count(), 1 + 4 * 5, "a run, and five samples of four combinations");
    assert!(fs::read_to_string(folder.join("a.html")).unwrap().contains("file-to-null"));
    assert!(
        fs::read_dir(folder).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("staccato-"))
    );

    let output = bench(folder, &matrix);
    assert!(!output.status.success() && said(&output).contains("add --resume"), "{}", said(&output));
    // Interrupted within a line.
    let kept: String = results.lines().take(8).map(|line| format!("{line}\n")).collect();
    fs::write(folder.join("b.jsonl"), kept + &results[..100]).unwrap();
    let output = bench(folder, &["matrix", "sweep.toml", "--output", "b.jsonl", "--resume"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(folder.join("b.jsonl")).unwrap().lines().count(), 2 + 4 * 5, "{}", said(&output));

    let output = bench(folder, &["report", "a.jsonl", "b.jsonl", "--output", "both.html"]);
    assert!(output.status.success() && folder.join("both.html").exists(), "{}", said(&output));
    let output = bench(folder, &["compare", "a.jsonl", "a.jsonl", "--fail-if-slower", "0"]);
    assert!(output.status.success() && said(&output).contains("noise"), "{}", said(&output));
    // The same results, ten times as slow.
    let slower = results.replace("\"seconds\":", "\"seconds\":1");
    fs::write(folder.join("slower.jsonl"), slower).unwrap();
    let output = bench(folder, &["compare", "a.jsonl", "slower.jsonl", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && told["lines"][0]["verdict"] == "slower", "{told}");
    let output = bench(folder, &["compare", "a.jsonl", "slower.jsonl", "--fail-if-slower", "5"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("slower by more than 5 %"), "{}", said(&output));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let scratch = scratch();
    let folder = scratch.path();
    fs::write(folder.join("sweep.toml"), SWEEP.replace("chunk_mib", "chunks_mib")).unwrap();
    fs::write(folder.join("results.jsonl"), "{}\n").unwrap();
    for (arguments, why) in [
        (&["matrix", "sweep.toml"][..], "did you mean chunk_mib?"),
        (&["matrix", "gone.toml"], "gone.toml: No such file"),
        (&["report", "results.jsonl"], "results.jsonl: line 1: it has no schema"),
        (&["compare", "results.jsonl", "gone.jsonl"], "line 1"),
        (&["compare", "a", "b", "--fail-if-slower=-3"], "positive percentage"),
    ] {
        let output = bench(folder, arguments);
        assert!(!output.status.success() && said(&output).contains(why), "{arguments:?}: {}", said(&output));
    }
}
