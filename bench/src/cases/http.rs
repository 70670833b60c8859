//! From a server to a file.

use std::{io, rc::Rc};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Fetch, Fio, RawDisk, fetch_rivals, installed},
    measure::Meter,
    probe::disk::{Direction, DiskLoad},
    server::Nginx,
    worker::Program,
};

/// The name of the case without TLS in results.
pub const NAME: &str = "http-to-file";
/// The name of the case with TLS.
pub const NAME_SECURE: &str = "https-to-file";

/// Random bytes in the page cache of a real nginx on loopback, fetched to a file until it is durable: by us, by rivals
/// with one connection and with eight, and, as limits, by us to nowhere and by whoever only writes as much.
pub fn fetch(program: &Program, place: &Workplace, bytes: u64, secure: bool) -> io::Result<Case> {
    let source = place.fill("source", bytes)?;
    let folder = source.parent().expect("it is a file of the workplace");
    let server = if installed("nginx") { Some(Rc::new(Nginx::start(folder)?)) } else { None };
    let ours = || Fetch::new(program, server.as_ref(), secure, "source");
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(ours()?), Box::new(ours()?.to_null())];
    let direction = Direction::Write;
    contestants.push(Box::new(RawDisk {
        program: program.clone(),
        source: source.clone(),
        direction,
        bytes,
        load: DiskLoad::default(),
    }));
    contestants.push(Box::new(Fio { source: source.clone(), direction, bytes }));
    if let Some(server) = &server {
        let rivals = fetch_rivals(server, secure, "source");
        contestants.extend(rivals.into_iter().map(|rival| Box::new(rival) as Box<dyn Contestant>));
    }
    Ok(Case {
        target: Some(place.path("target")),
        meters: Meter::of_disk(&source),
        warm: vec![source],
        ..Case::new(if secure { NAME_SECURE } else { NAME }, bytes, contestants)
    })
}
