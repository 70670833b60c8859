//! File to file by what can be set: kind of lane, chunk size, and depth. Beside each the raw probe with the same load.
//! All are timed without their start: lanes with more memory to register take longer to start, and that is no property
//! of a chunk size.

use std::{io, path::Path};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Attempt, RawDisk},
    probe::disk::{Direction, DiskLoad},
    worker::Program,
};

/// The name in results of what is measured by chunk size, on both kinds of lane.
pub const NAME_CHUNKS: &str = "chunk-size";
/// The name in results of what is measured by depth.
pub const NAME_DEPTHS: &str = "depth";

const CHUNKS_MIB: [u64; 3] = [1, 4, 16];
/// Chunks of a lane under way. The engine's window has no more of local files ([`staccato_dataplane`]).
const WINDOWS: [usize; 4] = [1, 2, 4, 8];
/// The usual size of a chunk.
const CHUNK_MIB: u64 = 4;

/// A case for each chunk size, with the memory that a service has: up to 8 chunks for each lane.
pub fn chunk_sizes(program: &Program, place: &Workplace, bytes: u64) -> io::Result<Vec<Case>> {
    let source = place.fill("source", bytes)?;
    let case = |chunk_mib: u64| {
        let lane = |lane: &str| {
            let attempt = Attempt::new(program, &format!("staccato {lane}"), format!("file://{}", source.display()));
            attempt.with(format!("--lane={lane}")).with(format!("--chunk-mib={chunk_mib}")).work_alone()
        };
        let load = DiskLoad { block_mib: chunk_mib, ..DiskLoad::default() };
        let contestants: Vec<Box<dyn Contestant>> = vec![
            Box::new(lane("tokio-uring")),
            Box::new(lane("glommio")),
            Box::new(probe(program, &source, bytes, load)),
        ];
        copy(NAME_CHUNKS, ("chunk", format!("{chunk_mib} MiB")), place, &source, bytes, contestants)
    };
    Ok(CHUNKS_MIB.into_iter().map(case).collect())
}

/// A case for each depth: chunks under way on all lanes together. There is no setting for it: the engine's window is
/// what an attempt's memory allows, and so it has just that much. The probe reads a half and writes a half of as many.
pub fn depths(program: &Program, place: &Workplace, bytes: u64) -> io::Result<Vec<Case>> {
    let source = place.fill("source", bytes)?;
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let case = |window: usize| {
        let depth = lanes * window;
        let attempt = Attempt::new(program, "staccato", format!("file://{}", source.display()))
            .with("--lane=tokio-uring")
            .with(format!("--lanes={lanes}"))
            .with("--slots=1")
            .with(format!("--memory-mib={}", CHUNK_MIB * depth as u64))
            .with(format!("--chunk-mib={CHUNK_MIB}"))
            .work_alone();
        let load = DiskLoad { block_mib: CHUNK_MIB, depth: (depth / 2).max(1) as u16 };
        let contestants: Vec<Box<dyn Contestant>> =
            vec![Box::new(attempt), Box::new(probe(program, &source, bytes, load))];
        copy(NAME_DEPTHS, ("depth", depth.to_string()), place, &source, bytes, contestants)
    };
    Ok(WINDOWS.into_iter().map(case).collect())
}

fn probe(program: &Program, source: &Path, bytes: u64, load: DiskLoad) -> RawDisk {
    RawDisk { program: program.clone(), source: source.to_owned(), direction: Direction::Both, bytes, load }
}

fn copy(
    name: &str,
    (setting, value): (&str, String),
    place: &Workplace,
    source: &Path,
    bytes: u64,
    contestants: Vec<Box<dyn Contestant>>,
) -> Case {
    let mut case = Case::new(name, bytes, contestants);
    case.settings.insert(setting.to_owned(), value);
    Case { target: Some(place.path("target")), cold: vec![source.to_owned()], ..case }
}
