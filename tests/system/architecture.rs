//! The arrows between the folders, and what pure code may not name.

use std::{
    fs,
    path::{Path, PathBuf},
};

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
    let rules: [(&str, &[&str]); 6] = [
        ("axum", &["control"]),
        ("sled", &["control"]),
        ("glommio", &["dataplane", "protocols"]),
        ("tokio-uring", &["dataplane", "protocols"]),
        ("staccato-control", &["tests", "bench"]),
        ("staccato-dataplane", &["control", "bench", "tests"]),
    ];
    for folder in ["control", "dataplane", "protocols", "scheduler-plugins", "bench", "tests"] {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        for (name, allowed) in rules {
            let named = manifest
                .lines()
                .any(|line| line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} ")));
            assert!(!named || allowed.contains(&folder), "{folder} may not depend on {name}");
        }
    }
}

#[test]
fn every_folder_says_what_it_is_for() {
    for folder in ["control", "dataplane", "protocols", "scheduler-plugins", "bench", "tests"] {
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
