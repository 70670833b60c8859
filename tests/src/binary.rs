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
        assert!(binary.is_file(), "{} is not there", binary.display());
        binary
    })
}

/// A command of the binary that sees none of the variables `STACCATO_...`: neither those that steer these tests, which it
/// would refuse as settings that nobody knows, nor the settings of whoever runs them.
pub fn command() -> Command {
    let mut command = Command::new(staccato());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STACCATO_") {
            command.env_remove(name);
        }
    }
    command
}

/// Tests of one package cannot ask cargo for the binary of another; so it is built here, which is quick when nothing has
/// changed.
fn build() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "staccato-control", "--bin", "staccato"]);
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "the binary staccato does not build");
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    folder.join("staccato")
}
