//! Across a link, between two hosts or on loopback.

use std::{collections::BTreeMap, io, path::Path, rc::Rc};

use staccato_dataplane::yardstick::link::Transport;

use super::Workplace;
use crate::{
    contest::Case,
    contestants::{LinkCase, Storage, link_contestants},
    link::Testbed,
    measure::Meter,
    worker::Program,
};

/// Where files are that shall not be on a disk.
const MEMORY: &str = "/dev/shm";

/// What the cases of a link have in common.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// Where the object is, and where it goes.
    pub storages: (Storage, Storage),
    /// Its length.
    pub bytes: u64,
    /// What tells the link from others.
    pub settings: BTreeMap<String, String>,
    /// Seconds after which a contestant is given up.
    pub seconds_max: f64,
}

/// The name of a case in results.
pub fn name((from, to): (Storage, Storage)) -> String {
    format!("{from}-to-{to}")
}

/// A case of two ends by themselves, `streams` connections at a time, and the folders that must outlive it.
pub fn cross(
    program: &Program,
    disk: &Path,
    bed: &Rc<Testbed>,
    crossing: &Crossing,
    transport: Transport,
    streams: usize,
) -> io::Result<(Case, Vec<Workplace>)> {
    let Crossing { storages: (from, to), bytes, seconds_max, .. } = *crossing;
    let (on_disk, in_memory) = (Workplace::new(disk)?, Workplace::new(Path::new(MEMORY))?);
    let place = |storage| if storage == Storage::Disk { &on_disk } else { &in_memory };
    let source = place(from).fill("source", bytes)?;
    let (program, bed) = (program.clone(), bed.clone());
    let folder = in_memory.path("servers");
    let case = LinkCase {
        program,
        bed: bed.clone(),
        folder,
        source: source.clone(),
        from,
        to,
        bytes,
        transport,
        streams,
        seconds_max,
    };
    let mut settings = crossing.settings.clone();
    settings.insert("size".into(), bytes.to_string());
    settings.insert("streams".into(), streams.to_string());
    settings.insert("transport".into(), transport.to_string());
    let target = place(to).path("target");
    let is_disk = |storage| storage == Storage::Disk;
    let case = Case {
        settings,
        target: Some(target),
        meters: if is_disk(from) || is_disk(to) { Meter::of_disk(&on_disk.path(".")) } else { Vec::new() },
        cold: if is_disk(from) { vec![source] } else { Vec::new() },
        own_work: Some(Rc::new(move || bed.cpu_seconds())),
        ..Case::new(name((from, to)), bytes, link_contestants(&case)?)
    };
    Ok((case, vec![on_disk, in_memory]))
}
