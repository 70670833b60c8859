//! From a server to a file.

use std::{collections::BTreeMap, io, rc::Rc};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Fetch, Fio, RawDisk, fetch_rivals, installed},
    measure::{MemoryState, Meter},
    probe::disk::Direction,
    server::Nginx,
    worker::Program,
};

/// The name of the case without TLS in results.
pub const NAME: &str = "http-to-file";
/// The name of the case with TLS.
pub const NAME_SECURE: &str = "https-to-file";

/// Random bytes in the page cache of a real nginx on loopback, fetched to a file until it is durable: by us, by rivals with
/// one connection and with eight, and, as limits, by us to nowhere and by whoever only writes as much.
pub fn fetch(program: &Program, place: &Workplace, bytes: u64, secure: bool) -> io::Result<Case> {
    let source = place.fill("source", bytes)?;
    let folder = source.parent().expect("it is a file of the workplace");
    let server = if installed("nginx") { Some(Rc::new(Nginx::start(folder)?)) } else { None };
    let ours = || Fetch::new(program, server.as_ref(), secure, "source");
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(ours()?), Box::new(ours()?.to_null())];
    let direction = Direction::Write;
    contestants.push(Box::new(RawDisk { program: program.clone(), source: source.clone(), direction, bytes }));
    contestants.push(Box::new(Fio { source: source.clone(), direction, bytes }));
    if let Some(server) = &server {
        let rivals = fetch_rivals(server, secure, "source");
        contestants.extend(rivals.into_iter().map(|rival| Box::new(rival) as Box<dyn Contestant>));
    }
    Ok(Case {
        name: if secure { NAME_SECURE } else { NAME }.into(),
        settings: BTreeMap::from([("size".into(), bytes.to_string())]),
        bytes,
        operations: 0,
        target: Some(place.path("target")),
        keep_target: false,
        meters: Meter::of_disk(&source),
        cold: Vec::new(),
        warm: vec![source],
        memory: MemoryState::AsFound,
        contestants,
    })
}
