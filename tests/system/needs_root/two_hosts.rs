//! README's "Two hosts in five minutes" and "A protocol of your own in Python", word for word, and the lines that
//! `demo --hosts` says to type.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use staccato_tests::{
    binary::{command, staccato},
    service::scratch,
};

/// Runs a script as on a machine that is used for nothing else: with namespaces for its network, its processes (which end
/// with it), and its mounts, where `/tmp` and the names of network namespaces are its own.
pub(super) fn run_apart(script: &str) -> Output {
    let folder = tempfile::tempdir_in(scratch()).expect("a folder can be made");
    let before = "set -euo pipefail\n\
                  mount --bind \"$0\" /tmp && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up\n\
                  cd /\n";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args(["timeout", "--kill-after", "5", "120", "bash", "-c"]).arg(format!("{before}{script}"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"STACCATO_")) {
        unshare.env_remove(name);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    // `rclone` is where `tests/run` has put it; another one on PATH may be too old for S3.
    let tools = staccato_bench::servers::tool("rclone");
    let tools = tools.parent().expect("it lies in a folder").display();
    let output = unshare.arg(folder.path()).env("PATH", format!("{tools}:{path}:/usr/sbin:/sbin")).output();
    let output = output.expect("unshare, of util-linux, is there");
    let left: Vec<_> = staccato_tests::service::names(folder.path());
    assert!(!output.status.success() || left.is_empty(), "{left:?} stay in /tmp");
    output
}

/// What a command said.
pub(super) fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The shell blocks of a section.
pub(super) fn blocks(page: &str, section: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let section = rest.split("\n## ").next().unwrap_or_default();
    section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next()).collect()
}

#[test]
fn the_readme_leads_two_hosts_to_a_copy_word_for_word() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let script = blocks(&fs::read_to_string(readme).unwrap(), "Two hosts in five minutes");
    assert!(script.contains("target/release/staccato") && script.contains("\ncmp "), "{script}");
    let output = run_apart(&script.replace("target/release/staccato", &staccato().display().to_string()));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for word in ["STATE_COMPLETE", "h2 ", "10.77.1.2:5310", "/tmp/two-hosts/h2", "s3://images/image.raw"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
}

#[test]
fn the_readme_adds_a_protocol_in_python_word_for_word() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(repository.join("README.md")).unwrap();
    let script = blocks(&readme, "A protocol of your own in Python");
    assert!(script.contains("target/release/staccato") && script.contains("\ncmp "), "{script}");
    let script = script.replace("target/release/staccato", &staccato().display().to_string());
    let output = run_apart(&format!("cd {}\n{script}", repository.canonicalize().unwrap().display()));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for word in ["ok      destination: ", "STATE_COMPLETE", "folder      ranges      anywhere     yes      plug_in"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("WARN") && !said.contains("ERROR") && !said.contains("failed"), "{said}");
}

#[test]
fn the_demo_of_several_hosts_names_the_lines_that_do_the_same() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let output = command()
        .args(["demo", "--hosts", "2", "--size", "128", "--rate", "32"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("network namespace"), "{said}");
    assert!(staccato_tests::service::names(folder.path()).is_empty(), "nothing is left");

    let (_, by_hand) = said.split_once("line by line").expect("they are there");
    let lines = by_hand.lines().skip(1).filter_map(|line| line.strip_prefix("  "));
    // A smaller file, and the program wherever it is.
    let script: String = lines.map(|line| format!("{line}\n")).collect();
    let script = script.replace("128M", "16M").replace("512M", "64M").replace("1G", "128M");
    let output = run_apart(&format!("cd {}\n{script}", std::env::current_dir().unwrap().display()));
    let said = text(&output);
    assert!(output.status.success() && said.contains("\nequal"), "{script}\n{said}");
}
