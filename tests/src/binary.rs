//! The binary under test.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The binary `staccato`: the one that `TEST_BINARY` names, else one built from the sources as they are, with the
/// profile of the tests.
pub fn staccato() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let binary = std::env::var_os("TEST_BINARY").map_or_else(build, PathBuf::from);
        // Without `..`: roots of services lie beside it.
        binary.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", binary.display()))
    })
}

/// A command of the binary that sees none of the variables `STACCATO_...`: they are the settings of whoever runs these
/// tests.
pub fn command() -> Command {
    let mut command = Command::new(staccato());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STACCATO_") {
            command.env_remove(name);
        }
    }
    command
}

/// Tests of one package cannot ask cargo for the binary of another; so it is built here, which is quick when nothing
/// has changed. Together with all tests of the workspace, as `tests/run` does: alone it would depend on other features
/// of the same crates, and be built twice.
fn build() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["test", "--workspace", "--no-run", "--quiet"]);
    // What cargo told this test about its package would make build scripts believe that everything has changed.
    for (name, _) in std::env::vars_os() {
        let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].map(str::as_bytes);
        if about.iter().any(|about| name.as_encoded_bytes().starts_with(about)) {
            build.env_remove(name);
        }
    }
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "the binary staccato does not build");
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    folder.join("staccato")
}
