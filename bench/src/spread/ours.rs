//! A distribution by a service of the bench's own: its executors are on the hosts, and one is at the source unless that is
//! an HTTP server.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    path::Path,
    process::Command,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    READ, figures,
    rivals::nginx,
    site::{OBJECT, Site},
};
use crate::{
    api::{self, Api},
    contest::{Contestant, Told},
    link::{
        fleet::{Fleet, Post, Seat},
        pair::Server,
    },
    measure::Ended,
    record::Kind,
    worker::{Program, argument, from_argument},
};

/// Where executors join the service.
const DOOR_PORT: u16 = 5311;
/// The port of its REST interface.
const API_PORT: u16 = 5309;
/// Where executors reach one another.
const PEER_PORT: u16 = 5320;
/// Where the HTTP server is that has the object: as long as the deployment, beside those of rivals' samples.
const ORIGIN_PORT: u16 = 8090;
/// The host that has the object.
const SOURCE: &str = "source";
/// How often it is asked how far the distribution is: the service tells itself when it was through.
const LOOK: Duration = Duration::from_millis(100);

/// A service and its executors, and the HTTP server that has the object, if one has.
pub struct Deployment {
    site: Rc<Site>,
    fleet: Fleet,
    origin: Option<Server>,
}

impl Deployment {
    /// Starts them all.
    pub fn start(site: &Rc<Site>) -> io::Result<Self> {
        let seat = Seat { at: site.leader().words(), door: Site::at(site.leader(), DOOR_PORT), api_port: API_PORT };
        let source = (!site.has_origin()).then(|| (SOURCE.to_owned(), site.source(), site.source_folder()));
        let hosts = (0..site.hosts()).map(|index| (name(index), site.host(index), site.folder(index)));
        let post = |(name, host, root)| Post {
            name,
            at: crate::network::Host::words(host),
            listen: Some(Site::at(host, PEER_PORT)),
            roots: vec![root],
        };
        let posts: Vec<Post> = source.into_iter().chain(hosts).map(post).collect();
        let origin = site.has_origin().then(|| nginx(site, "origin", ORIGIN_PORT)).transpose()?;
        Ok(Self {
            fleet: Fleet::start_at(&seat, &posts, &site.scratch("fleet")?, None, site.clone())?,
            origin: origin.map(|nginx| Server::start(&nginx.words, &nginx.ports)).transpose()?,
            site: site.clone(),
        })
    }

    /// CPU seconds of all its processes so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.fleet.cpu_seconds().values().sum::<f64>() + self.origin.as_ref().map_or(0.0, Server::cpu_seconds)
    }

    fn request(&self, transport: &str) -> Value {
        let source = match self.origin {
            Some(_) => format!("http://{}/{OBJECT}", Site::at(self.site.source(), ORIGIN_PORT)),
            None => format!("file://{SOURCE}{}", self.site.object().display()),
        };
        let to = |index| format!("file://{}{}", name(index), self.site.target(index).display());
        json!({
            "source_url": source,
            "destination_urls": (0..self.site.hosts()).map(to).collect::<Vec<_>>(),
            "transport": transport,
        })
    }
}

fn name(index: usize) -> String {
    format!("host{}", index + 1)
}

/// One distribution.
pub struct Distributed {
    program: Program,
    deployment: Rc<Deployment>,
    transport: String,
    seconds_max: f64,
    /// CPU seconds of everybody, and what the source's device had sent, when the sample was begun.
    before: Cell<(f64, u64)>,
}

impl Distributed {
    /// By these executors, over `auto`, `quic` or `tcp`; given up after `seconds_max`.
    pub fn new(program: &Program, deployment: &Rc<Deployment>, transport: &str, seconds_max: f64) -> Self {
        let (deployment, transport) = (deployment.clone(), transport.to_owned());
        Self { program: program.clone(), deployment, transport, seconds_max, before: Cell::default() }
    }
}

impl Contestant for Distributed {
    fn name(&self) -> String {
        format!("staccato {}", self.transport)
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn command(&self, _target: &Path) -> Command {
        let Deployment { site, fleet, .. } = &*self.deployment;
        // Where that fails, the service refuses to write over what is there.
        let _ = site.clear();
        // Where that fails, an earlier sample's copies may be of help, and the figure shows it.
        let _ = site.renew();
        let wish = Wish {
            api: fleet.api().to_owned(),
            request: self.deployment.request(&self.transport),
            seconds_max: self.seconds_max,
        };
        fleet.forget_rss_max();
        self.before.set((self.deployment.cpu_seconds(), site.source().bytes_sent().unwrap_or(0)));
        site.worker(&self.program, "distribute", &argument(&wish))
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn works_elsewhere(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let Deployment { site, fleet, .. } = &*self.deployment;
        let (cpu_before, sent_before) = self.before.get();
        let (cpu_seconds, sent) =
            (self.deployment.cpu_seconds() - cpu_before, site.source().bytes_sent()? - sent_before);
        let told: DistributeTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        if let Some(late) = told.late {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{late}\n{}", fleet.logs())));
        }
        site.check(site.hosts())?;
        let mut figures = figures(site, told.seconds, sent);
        figures.insert(READ.into(), told.bytes_from_source as f64 / site.bytes as f64);
        Ok(Told {
            seconds: Some(told.seconds),
            cpu_seconds: Some(cpu_seconds),
            stages: told.stages,
            rss_bytes_max: fleet.rss_bytes_max(),
            copies: Some(site.hosts() as u64),
            figures,
            ..Told::default()
        })
    }
}

/// What shall be distributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wish {
    api: String,
    request: Value,
    seconds_max: f64,
}

/// Makes a distribution and waits for it.
#[derive(Clone, Debug, Args)]
pub struct Distributing {
    /// The wish, as JSON
    #[arg(value_parser = from_argument::<Wish>)]
    wish: Wish,
}

/// What the service told of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistributeTold {
    /// From its submission until its last host had everything, by the service's clock.
    seconds: f64,
    /// What its hosts have read from the source.
    bytes_from_source: u64,
    /// Seconds in each stage, of the host that was through last.
    stages: BTreeMap<String, f64>,
    /// Why there is nothing to tell, where it took too long.
    late: Option<String>,
}

impl Distributing {
    /// Submits it, waits for its end, and lets the service forget it.
    pub fn run(&self) -> io::Result<DistributeTold> {
        let Wish { api, request, seconds_max } = &self.wish;
        let (api, began) = (Api::new(api), Instant::now());
        let made = api.post("/v1/distributions", request)?;
        let path = format!("/v1/distributions/{}", api::id(&made));
        let ended = loop {
            let document = api.get(&path)?;
            match document["state"].as_str() {
                Some("STATE_COMPLETE") => break document,
                Some("STATE_ERROR" | "STATE_CANCELED") => {
                    let members = api.get(&format!("{path}/members"))?;
                    return Err(io::Error::other(format!("the distribution failed: {document}, {members}")));
                }
                _ if began.elapsed().as_secs_f64() > *seconds_max => {
                    // With it, what its hosts have is forgotten: the next sample finds nothing of it.
                    api.delete(&path)?;
                    let late = Some(format!("it takes longer than {seconds_max} s (--patience): {document}"));
                    return Ok(DistributeTold { late, ..DistributeTold::default() });
                }
                _ => thread::sleep(LOOK),
            }
        };
        let last = last_member(&api, &path)?;
        let seconds = api::between(&ended["created_at"], &last["finished_at"]);
        let told = DistributeTold {
            seconds: seconds.ok_or_else(|| io::Error::other(format!("no times in {last}")))?,
            bytes_from_source: ended["bytes_from_source"].as_u64().unwrap_or(0),
            stages: api::stage_seconds(&last).collect(),
            late: None,
        };
        api.delete(&path)?;
        Ok(told)
    }
}

/// The transfer of the host that was through last.
fn last_member(api: &Api, path: &str) -> io::Result<Value> {
    let members = api.get(&format!("{path}/members?limit=1000"))?;
    let ids = members.as_array().into_iter().flatten().filter_map(|member| member["transfer"].as_str());
    let documents = ids.map(|id| api.get(&format!("/v1/transfers/{id}"))).collect::<io::Result<Vec<_>>>()?;
    let finished = |document: &Value| document["finished_at"].as_str().unwrap_or_default().to_owned();
    Ok(documents.into_iter().max_by_key(finished).unwrap_or_default())
}
