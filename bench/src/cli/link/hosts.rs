//! `link HOST_A HOST_B`: between two hosts of a deployment that is there.

use std::{collections::BTreeMap, io, rc::Rc, str::FromStr};

use super::{Lines, Link, STORAGES};
use crate::{
    cases::{self, service::Made},
    contestants::{Storage, service::Hosts},
    link::client::{Client, Executor},
    report::table,
    service,
    worker::Program,
};

/// A host, and where on its disk something may be written: `HOST` or `HOST:/FOLDER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostArgument {
    name: String,
    /// As URLs write it.
    folder: Option<String>,
}

impl FromStr for HostArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, folder) = match text.split_once(':') {
            Some((name, folder)) => (name, Some(folder)),
            None => (text, None),
        };
        if name.is_empty() || folder.is_some_and(|folder| !folder.starts_with('/')) {
            return Err("write HOST or HOST:/FOLDER".into());
        }
        Ok(Self { name: name.to_owned(), folder: folder.map(str::to_owned) })
    }
}

/// Measures what the two allow: where a host has a folder, its disk too.
pub(super) fn run(
    link: &Link,
    program: &Program,
    client: Vec<String>,
    from: &HostArgument,
    to: &HostArgument,
) -> io::Result<()> {
    let client = Client::of_theirs([vec![service::binary()?.display().to_string()], client].concat());
    check(from, to, &client.executors()?).map_err(io::Error::other)?;
    let wanted = link.measuring.wanted(STORAGES.to_vec(), |storages| cases::link::name(*storages))?;
    let possible = |(source, destination): (Storage, Storage)| {
        let has = |storage, host: &HostArgument| storage == Storage::Memory || host.folder.is_some();
        has(source, from) && has(destination, to)
    };
    let measured: Vec<_> = wanted.iter().filter(|storages| possible(**storages)).collect();
    for storages in wanted.iter().filter(|storages| !possible(**storages)) {
        eprintln!("{}: not measured; say where on the disk, HOST:/FOLDER", cases::link::name(*storages));
    }
    if measured.is_empty() {
        return Err(io::Error::other("there is nothing to measure: say where on the disks, HOST:/FOLDER"));
    }
    let (owner, reader) = (from.name.clone(), to.name.clone());
    let settings = BTreeMap::from([("path".to_owned(), format!("{owner} to {reader}"))]);
    let hosts = Rc::new(Hosts { client, owner, reader, fleet: None });
    let mut results = link.measuring.begin(&link.folder)?;
    let effort = link.measuring.effort(1.0 / measured.len() as f64, false)?;
    // Made first: what is not allowed is told before anything is measured.
    let bytes = link.mib << 20;
    let makes = |host: &HostArgument, is_wanted: bool, bytes| match (&host.folder, is_wanted) {
        (Some(folder), true) => Made::new(&hosts, &host.name, folder, bytes, link.patience).map(Some),
        _ => Ok(None),
    };
    let source = makes(from, measured.iter().any(|storages| storages.0 == Storage::Disk), bytes)?;
    let target = makes(to, measured.iter().any(|storages| storages.1 == Storage::Disk), 0)?;
    for storages in measured {
        let files = [
            source.as_ref().filter(|_| storages.0 == Storage::Disk),
            target.as_ref().filter(|_| storages.1 == Storage::Disk),
        ];
        let crossing = link.crossing(*storages, &settings);
        let mut service = cases::service::theirs(program, &hosts, files, &crossing)?;
        service.case.keep(&link.measuring.contestants);
        results.take(service.run(effort, &mut Lines)?)?;
    }
    println!("{}", table::across(results.series()));
    results.finish()
}

/// Whether the two are there.
fn check(from: &HostArgument, to: &HostArgument, executors: &[Executor]) -> Result<(), String> {
    if from.name == to.name {
        return Err(format!("a link has two hosts, and {} is one; `bench local` measures it", from.name));
    }
    for host in [from, to] {
        let Some(executor) = executors.iter().find(|executor| executor.name == host.name) else {
            let names: Vec<&str> = executors.iter().map(|executor| executor.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(format!("the service knows no host {}; it knows {names}", host.name));
        };
        match executor.health.as_str() {
            "up" => {}
            "new" => return Err(format!("{} has enrolled, and its executor has never joined; start it", host.name)),
            _ => return Err(format!("{} is away: its executor is not heard; start it, or wait for it", host.name)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostArgument {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_may_have_a_folder() {
        assert_eq!(host("h1"), HostArgument { name: "h1".into(), folder: None });
        assert_eq!(host("h1:/srv/a:b"), HostArgument { name: "h1".into(), folder: Some("/srv/a:b".into()) });
        for wrong in ["", ":/srv", "h1:", "h1:srv", "/srv"] {
            let parsed = wrong.parse::<HostArgument>();
            // A path alone would be the name of a host that nobody has.
            assert!(parsed.is_err() || wrong == "/srv", "{wrong}");
        }
    }

    #[test]
    fn who_is_not_there_is_named_with_what_to_do() {
        let executor = |name: &str, health: &str| -> Executor {
            serde_json::from_value(serde_json::json!({"name": name, "health": health})).unwrap()
        };
        let all = [executor("a", "up"), executor("b", "up"), executor("away", "down"), executor("early", "new")];
        let why = |from, to| check(&host(from), &host(to), &all);
        assert_eq!(why("a", "b:/srv"), Ok(()));
        assert!(why("a", "a").unwrap_err().contains("two hosts"));
        assert!(why("a", "c").unwrap_err().contains("no host c; it knows a, b, away, early"));
        assert!(why("away", "b").unwrap_err().contains("away is away"));
        assert!(why("a", "early").unwrap_err().contains("never joined"));
    }
}
