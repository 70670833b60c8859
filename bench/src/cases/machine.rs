//! The machine itself: disk, memory, processor, and lanes without storage.

use std::io;

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Attempt, Fio, Processor, RawDisk},
    measure::Meter,
    probe::{
        compute::What,
        disk::{Direction, DiskLoad},
    },
    worker::Program,
};

/// What the processor is asked to do for a case, in bytes: enough to be measured, and less than a second's work.
const COMPUTE_BYTES: u64 = 4 << 30;

/// The disk, in one direction or both, by a bare io_uring and by fio. What is written is new to the file system.
pub fn disk(program: &Program, place: &Workplace, bytes: u64, direction: Direction) -> io::Result<Case> {
    let source = place.fill("source", bytes)?;
    let contestants: Vec<Box<dyn Contestant>> = vec![
        Box::new(RawDisk {
            program: program.clone(),
            source: source.clone(),
            direction,
            bytes,
            load: DiskLoad::default(),
        }),
        Box::new(Fio { source: source.clone(), direction, bytes }),
    ];
    Ok(Case {
        target: direction.writes().then(|| place.path("target")),
        meters: Meter::of_disk(&source),
        cold: vec![source],
        ..Case::new(format!("disk-{direction}"), bytes, contestants)
    })
}

/// The disk, written where it was written before: virtual disks often give space only at the first write, which is
/// slow.
pub fn disk_again(program: &Program, place: &Workplace, bytes: u64) -> io::Result<Case> {
    let case = disk(program, place, bytes, Direction::Write)?;
    Ok(Case { name: "disk-write-again".into(), keep_target: true, ..case })
}

/// Memory and processor.
pub fn processor(program: &Program) -> Case {
    let ask =
        |what| Box::new(Processor { program: program.clone(), what, bytes: COMPUTE_BYTES }) as Box<dyn Contestant>;
    let contestants = [What::CrcStreamed, What::CrcCached, What::CopyStreamed, What::CopyCached].map(ask).into();
    Case::new("processor", COMPUTE_BYTES, contestants)
}

/// Lanes without storage: pseudo-random bytes are made, their CRC is computed, and nobody takes them.
pub fn lanes(program: &Program, bytes: u64) -> Case {
    let lane = |lane: &str| {
        let attempt = Attempt::new(program, &format!("staccato {lane}"), format!("zero:///{bytes}?seed=1"));
        Box::new(attempt.to("null:///").with(format!("--lane={lane}"))) as Box<dyn Contestant>
    };
    Case::new("lanes", bytes, ["tokio-uring", "glommio"].map(lane).into())
}
