//! The example of a protocol from outside, in Python, beside the module `file`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::Attempt,
    measure::{MemoryState, Meter},
    worker::Program,
};

/// The name of this case in results.
pub const NAME: &str = "plug-in";

/// The example, as it is in the repository that this was built from.
const EXAMPLE: &str = include_str!("../../../protocols/examples/staccato-protocol-folder");

/// A cold file of random bytes, copied on its own disk until the copy is durable: by `file` at both ends, and by the
/// example at the one or the other. Its start is in its time.
pub fn copy(program: &Program, place: &Workplace, bytes: u64, memory: MemoryState) -> io::Result<Case> {
    let source = place.fill("source", bytes)?;
    let path = plug_in_path(place, &source)?;
    let url = format!("file://{}", source.display());
    let attempt = |name: &str, source: &str| Attempt::new(program, name, source).with("--lane=tokio-uring");
    let outside = |attempt: Attempt| attempt.with(format!("--plugin-path={}", path.display()));
    let contestants: Vec<Box<dyn Contestant>> = vec![
        Box::new(attempt("staccato file to file", &url)),
        Box::new(outside(attempt("staccato plug-in to file", "folder:///source"))),
        Box::new(outside(attempt("staccato file to plug-in", &url).to("folder:///target"))),
    ];
    Ok(Case {
        target: Some(place.path("target")),
        meters: Meter::of_disk(&source),
        cold: vec![source],
        memory,
        ..Case::new(NAME, bytes, contestants)
    })
}

/// A folder with the example, whose objects are the files beside a source.
fn plug_in_path(place: &Workplace, source: &Path) -> io::Result<PathBuf> {
    let folder = place.path("plug-ins");
    fs::create_dir(&folder)?;
    let program = folder.join("staccato-protocol-folder");
    fs::write(&program, EXAMPLE)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let objects = source.parent().unwrap_or(Path::new("/")).display().to_string();
    fs::write(program.with_extension("toml"), format!("[settings]\nfolder = {objects:?}\n"))?;
    Ok(folder)
}
