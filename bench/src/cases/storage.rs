//! From a real storage server to a file, and from a file to a server.

use std::{io, path::Path, rc::Rc};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    measure::Meter,
    storage::{Store, Writer},
    worker::Program,
};

/// The name of a case in results.
pub fn name(system: &str, to_file: bool) -> String {
    if to_file { format!("{system}-to-file") } else { format!("file-to-{system}") }
}

/// An object in the page cache of a server on loopback, read to a file until it is durable.
pub fn to_file(program: &Program, place: &Workplace, system: &str, bytes: u64, store: &Rc<dyn Store>) -> Case {
    Case {
        target: Some(place.path("target")),
        meters: Meter::of_disk(&place.path("")),
        warm: store.offered(),
        ..case(name(system, true), bytes, store.readers(program), store)
    }
}

/// A cold file, written to a server on loopback until that says that it has it.
pub fn from_file(program: &Program, source: &Path, system: &str, bytes: u64, store: &Rc<dyn Store>) -> Case {
    let writer = |contestant| {
        let store = store.clone();
        Box::new(Writer { contestant, store, bytes }) as Box<dyn Contestant>
    };
    let writers = store.writers(program, source).into_iter().map(writer).collect();
    Case {
        meters: Meter::of_disk(source),
        cold: vec![source.to_owned()],
        ..case(name(system, false), bytes, writers, store)
    }
}

/// What the server does is nobody's, but it is no noise either.
fn case(name: String, bytes: u64, contestants: Vec<Box<dyn Contestant>>, store: &Rc<dyn Store>) -> Case {
    let store = store.clone();
    Case { own_work: Some(Rc::new(move || store.cpu_seconds())), ..Case::new(name, bytes, contestants) }
}

/// Both ways, with a server that is started for them.
pub fn both(program: &Program, place: &Workplace, system: &str, bytes: u64) -> io::Result<[Case; 2]> {
    let source = place.fill("source", bytes)?;
    let store = crate::storage::start(system, &source, &place.path(""))?;
    let to_file = to_file(program, place, system, bytes, &store);
    Ok([to_file, from_file(program, &source, system, bytes, &store)])
}
