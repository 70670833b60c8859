//! One object from one host to many.

use std::{collections::BTreeMap, io, path::Path, rc::Rc};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    measure::own_cpu_seconds,
    spread::{
        ours::{Deployment, Distributed},
        rivals,
        site::{Plan, Site},
    },
    worker::Program,
};

/// The name of the case whose source is a file on a host.
pub const NAME: &str = "file-to-hosts";
/// The name of the case whose source is an HTTP server behind a slower link.
pub const NAME_ORIGIN: &str = "http-to-hosts";

/// The name of such a case.
pub fn name(plan: &Plan) -> &'static str {
    if plan.origin.is_some() { NAME_ORIGIN } else { NAME }
}

/// Random bytes in the page cache of one host, to all the others until each has them, whole and durable: by a distribution
/// over each of these transports (`auto`, `quic`, `tcp`), by swarms, by downloads at once, and, as the limit, by one
/// download alone. All hosts share the disk that has `folder`. With the folder that must outlive the case.
pub fn spread(
    program: &Program,
    folder: &Path,
    plan: &Plan,
    transports: &[String],
    seconds_max: f64,
) -> io::Result<(Case, Workplace)> {
    let place = Workplace::new(folder)?;
    let site = Rc::new(Site::build(&place, plan)?);
    let deployment = Rc::new(Deployment::start(&site)?);
    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    for transport in transports {
        contestants.push(Box::new(Distributed::new(program, &deployment, transport, seconds_max)));
    }
    for other in rivals::all(program, &site, seconds_max)? {
        contestants.push(Box::new(other));
    }
    let mbit = |rate: u64| format!("{} Mbit/s", rate as f64 / 1e6);
    let mut settings = BTreeMap::from([
        ("hosts".to_owned(), plan.hosts.to_string()),
        ("size".into(), plan.bytes.to_string()),
        ("rate".into(), mbit(plan.rate)),
    ]);
    if let Some(origin) = plan.origin {
        settings.insert("origin".into(), mbit(origin));
    }
    let warm = vec![site.object()];
    // What the bench compares behind the clock is nobody else's work either.
    let own_work = Some(Rc::new(move || deployment.cpu_seconds() + own_cpu_seconds()) as Rc<dyn Fn() -> f64>);
    Ok((Case { settings, warm, own_work, ..Case::new(name(plan), plan.bytes, contestants) }, place))
}
