//! File to file on one disk.

use std::io;

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Attempt, Fio, RawDisk, file_rivals},
    measure::{MemoryState, Meter},
    probe::disk::{Direction, DiskLoad},
    worker::Program,
};

/// The name of this case in results.
pub const NAME: &str = "file-to-file";

/// A cold file of random bytes, copied on its own disk until the copy is durable: by both kinds of lane, by rivals, and
/// by whoever only reads and writes as much.
pub fn copy(program: &Program, place: &Workplace, bytes: u64, memory: MemoryState) -> io::Result<Case> {
    let source = place.fill("source", bytes)?;
    let url = format!("file://{}", source.display());
    let lane = |lane: &str| Attempt::new(program, &format!("staccato {lane}"), &url).with(format!("--lane={lane}"));
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(lane("tokio-uring")), Box::new(lane("glommio"))];
    let both = Direction::Both;
    contestants.push(Box::new(Fio { source: source.clone(), direction: both, bytes }));
    contestants.push(Box::new(RawDisk {
        program: program.clone(),
        source: source.clone(),
        direction: both,
        bytes,
        load: DiskLoad::default(),
    }));
    contestants.extend(file_rivals(&source).into_iter().map(|rival| Box::new(rival) as Box<dyn Contestant>));
    Ok(Case {
        target: Some(place.path("target")),
        meters: Meter::of_disk(&source),
        cold: vec![source],
        memory,
        ..Case::new(NAME, bytes, contestants)
    })
}
