//! The arrows between the folders, what pure code may not name, and the oldest Rust that builds it all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// What code called pure must not see: clocks, files, sockets, runtimes, threads, randomness, the environment.
const IMPURE: [&str; 13] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "tokio",
    "glommio",
    "rustix",
    "libc::",
    "thread_rng",
    "fastrand::u64(",
];

/// Each is one crate.
const FOLDERS: [&str; 6] = ["control", "dataplane", "protocols", "scheduler-plugins", "bench", "tests"];

#[test]
fn pure_code_names_no_clock_file_socket_or_runtime() {
    let mut looked_at = 0;
    for folder in ["scheduler-plugins/src", "dataplane/src/engine", "control/src/model"] {
        for file in sources(&root().join(folder)) {
            looked_at += 1;
            for (number, line) in code_of(&file).lines().enumerate() {
                let named = IMPURE.iter().find(|impure| line.contains(**impure));
                assert_eq!(named, None, "{}:{}: pure code sees none of it: {line}", file.display(), number + 1);
            }
        }
    }
    assert!(looked_at > 10, "the folders moved: {looked_at} files found");
}

#[test]
fn crates_are_named_only_in_the_folders_that_may_know_them() {
    let rules: [(&str, &[&str]); 11] = [
        ("axum", &["control"]),
        ("sled", &["control"]),
        ("glommio", &["dataplane", "protocols"]),
        ("tokio-uring", &["dataplane", "protocols"]),
        // A rival of the bench; ours drives quinn-proto.
        ("quinn", &["dataplane", "protocols", "bench"]),
        ("quinn-proto", &["dataplane", "protocols"]),
        ("quinn-udp", &["dataplane", "protocols"]),
        ("staccato-control", &["tests"]),
        ("staccato-dataplane", &["control", "bench", "tests"]),
        ("staccato-bench", &["control", "tests"]),
        ("staccato-tests", &[]),
    ];
    let crates = metadata(&["--no-deps"]);
    assert_eq!(crates.len(), FOLDERS.len(), "each folder is a crate");
    for package in crates {
        let name = package["name"].as_str().unwrap().trim_start_matches("staccato-");
        assert!(FOLDERS.contains(&name), "{name} lies in a folder of its name");
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let forbidden = rules.iter().any(|(ruled, allowed)| *ruled == on && !allowed.contains(&name));
            assert!(!forbidden, "{name} may not depend on {on}");
        }
        // hyper's client is for whoever needs one.
        let servers = hyper_features(&package).filter(|feature| feature.contains("server") || feature.contains("full"));
        let servers: Vec<String> = servers.collect();
        assert_eq!(servers.is_empty(), name != "control", "{name}: hyper's server is control's, {servers:?}");
    }
}

/// The features of hyper's crates that a manifest turns on: where it names the crate, or by a feature of its own.
fn hyper_features(package: &Value) -> impl Iterator<Item = String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let named = package["dependencies"].as_array().unwrap().iter().flat_map(move |dependency| {
        let (on, features) = (text(&dependency["name"]), dependency["features"].as_array().unwrap());
        features.iter().map(move |feature| format!("{on}/{}", text(feature)))
    });
    let own = package["features"].as_object().unwrap().values().flat_map(|list| list.as_array().unwrap()).map(text);
    named.chain(own).filter(|feature| feature.starts_with("hyper"))
}

/// The README's figure. What the code itself uses clippy compares with the same number (`incompatible_msrv`).
#[test]
fn the_oldest_rust_is_the_newest_that_a_dependency_asks_for() {
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let (own, others): (Vec<Value>, Vec<Value>) =
        metadata(&["--filter-platform", &platform]).into_iter().partition(|package| package["source"].is_null());
    let stated = own[0]["rust_version"].as_str().expect("the workspace states a rust-version");
    let asks = |package: &Value| Some((version(package["rust_version"].as_str()?), package["name"].to_string()));
    let (asked, by) = others.iter().filter_map(asks).max().expect("dependencies ask for one");
    assert_eq!(version(stated)[..2], asked[..2], "rust-version in Cargo.toml is {stated}, but {by} needs {asked:?}");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust {stated} or newer")), "README.md says another version than {stated}");
}

#[test]
fn every_folder_says_what_it_is_for() {
    for folder in FOLDERS {
        let readme = fs::read_to_string(root().join(folder).join("README.md"));
        let readme = readme.unwrap_or_else(|error| panic!("{folder}/README.md: {error}"));
        // Each module that lies at the top of a crate has its line on the map.
        for entry in fs::read_dir(root().join(folder).join("src")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let module = name.trim_end_matches(".rs");
            if !["lib", "main"].contains(&module) {
                assert!(readme.contains(module), "{folder}/README.md does not name {module}");
            }
        }
    }
}

/// The packages that `cargo metadata` tells of.
fn metadata(arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--locked", "--format-version", "1"]).args(arguments).current_dir(root());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["packages"].as_array().unwrap().clone()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// A file without its comments and its tests.
fn code_of(file: &Path) -> String {
    let is_test = ["tests.rs", "simulation"].iter().any(|part| file.to_string_lossy().contains(part));
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code = if is_test { "" } else { code };
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
