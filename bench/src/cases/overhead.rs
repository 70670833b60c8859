//! What everything but the I/O costs.

use std::io;

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Attempt, Bare, Transfer},
    measure::Meter,
    worker::Program,
};

/// The name of this case in results.
pub const NAME: &str = "overhead";

/// One file, copied by a whole service, by an attempt without one, by lanes that compute CRCs only, and by bare lanes.
/// What counts here is the CPU seconds of the work alone, without the start and the end of lanes.
pub fn copy(program: &Program, place: &Workplace, bytes: u64) -> io::Result<Case> {
    let path = place.fill("source", bytes)?;
    let source = format!("file://{}", path.display());
    let bare = |checksums| Bare { program: program.clone(), source: source.clone(), bytes, checksums };
    let contestants: Vec<Box<dyn Contestant>> = vec![
        Box::new(Transfer { program: program.clone(), source: source.clone(), data: place.path("data") }),
        Box::new(Attempt::new(program, "staccato attempt", &source).work_alone()),
        Box::new(bare(true)),
        Box::new(bare(false)),
    ];
    Ok(Case {
        target: Some(place.path("target")),
        meters: Meter::of_disk(&path),
        cold: vec![path],
        ..Case::new(NAME, bytes, contestants)
    })
}
