//! Everybody else: downloads from one server at once, and swarms.

use std::{
    cell::Cell,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use super::{
    cast::{Cast, CastTold, Listening, Ready, Receiving},
    figures,
    site::{OBJECT, Site},
    torrent::Torrent,
};
use crate::{
    contest::{Contestant, Told},
    contestants::{LIBTORRENT, installed},
    measure::Ended,
    network::Host,
    record::Kind,
    server,
    worker::{Program, argument},
};

/// Where the server of a sample is.
const HTTP_PORT: u16 = 8080;
/// Where a peer of a swarm is reached.
const PEER_PORT: u16 = 6881;
/// Where a tracker is.
const TRACKER_PORT: u16 = 6969;
/// What a tracker says of a torrent that one peer has.
const ONE_HAS_ALL: &str = "8:completei1e";
/// The Python that has Debian's modules: another one may come first on PATH.
const PYTHON: &str = "/usr/bin/python3";
/// A peer by libtorrent.
const PEER: &str = include_str!("python/peer.py");

/// Somebody who does it as a cast.
pub struct Spreading {
    program: Program,
    site: Rc<Site>,
    name: &'static str,
    kind: Kind,
    /// Programs that it needs.
    needs: Vec<&'static str>,
    cast: Cast,
    /// Files that clients make when they have everything.
    done: Vec<PathBuf>,
    /// What the source's device had sent when the sample was begun.
    sent_before: Cell<u64>,
}

/// Everybody. The limit is one host alone that downloads from the server. A sample is given up after `seconds_max`.
pub fn all(program: &Program, site: &Rc<Site>, seconds_max: f64) -> io::Result<Vec<Spreading>> {
    let one = |name, kind, needs: &[&'static str], cast: Cast| Spreading {
        program: program.clone(),
        site: site.clone(),
        name,
        kind,
        needs: needs.to_vec(),
        done: cast.clients.iter().filter_map(|client| client.done.clone()).collect(),
        cast: Cast { seconds_max, ..cast },
        sent_before: Cell::new(0),
    };
    Ok(vec![
        one("limit: one HTTP download", Kind::Limit, &["nginx", "curl"], over_http(site, 1)?),
        one("libtorrent swarm", Kind::Rival, &["opentracker", PYTHON, LIBTORRENT], by_libtorrent(site)?),
        one("aria2c swarm", Kind::Rival, &["opentracker", "aria2c"], by_aria2(site)?),
        one("HTTP downloads at once", Kind::Rival, &["nginx", "curl"], over_http(site, site.hosts())?),
    ])
}

/// An nginx at the source, and curl at so many hosts.
fn over_http(site: &Site, hosts: usize) -> io::Result<Cast> {
    let url = format!("http://{}/{OBJECT}", Site::at(site.source(), HTTP_PORT));
    let clients = (0..hosts).map(|index| {
        let target = site.target(index);
        Receiving { words: at(site.host(index), &["curl", "-sSf", "-o", &text(&target), &url]), target, done: None }
    });
    Ok(Cast {
        servers: vec![nginx(site, &format!("nginx-{hosts}"), HTTP_PORT)?],
        clients: clients.collect(),
        ..Cast::default()
    })
}

/// An nginx at the source that serves the object, with what it needs in a folder of that name.
pub(super) fn nginx(site: &Site, name: &str, port: u16) -> io::Result<Listening> {
    let listen = Site::at(site.source(), port);
    let words = server::command(&site.scratch(name)?, &site.source_folder(), listen)?;
    Ok(Listening { words: [site.source().words(), words].concat(), ports: vec![port] })
}

/// A tracker where the leader is, a seeder at the source, and a peer at each host. `peer` is the command of one on that host,
/// with that torrent, whose object is in that folder, or comes there; when it has everything it makes that file, which the
/// seeder has none of.
fn swarm(
    site: &Site,
    name: &str,
    peer: impl Fn(&Host, &Path, &Path, Option<&Path>) -> io::Result<Vec<String>>,
) -> io::Result<Cast> {
    let folder = site.scratch(name)?;
    let tracker = Site::at(site.leader(), TRACKER_PORT);
    let torrent = Torrent::of(&site.object(), &format!("http://{tracker}/announce"))?;
    let (file, whitelist) = (folder.join("object.torrent"), folder.join("whitelist"));
    fs::write(&file, &torrent.content)?;
    fs::write(&whitelist, torrent.info_hash() + "\n")?;
    let (ip, port) = (tracker.ip().to_string(), TRACKER_PORT.to_string());
    // It shuts itself into the folder, and does not go on as root.
    let words = ["opentracker", "-i", &ip, "-p", &port, "-d", &text(&folder), "-w", "whitelist", "-u", "nobody"];
    let tracks = Listening { words: at(site.leader(), &words), ports: vec![TRACKER_PORT] };
    let seeds = peer(site.source(), &file, &site.source_folder(), None)?;
    let clients = (0..site.hosts()).map(|index| {
        let (target, done) = (site.target(index), folder.join(format!("done{index}")));
        Ok(Receiving {
            words: peer(site.host(index), &file, &site.folder(index), Some(&done))?,
            target,
            done: Some(done),
        })
    });
    let url = format!("http://{tracker}/scrape?info_hash={}", torrent.info_hash_in_url());
    Ok(Cast {
        servers: vec![tracks, Listening { words: seeds, ports: vec![PEER_PORT] }],
        ready: Some(Ready { url, has: ONE_HAS_ALL.into() }),
        clients: clients.collect::<io::Result<_>>()?,
        ..Cast::default()
    })
}

fn by_libtorrent(site: &Site) -> io::Result<Cast> {
    let script = site.scratch("libtorrent")?.join("peer.py");
    fs::write(&script, PEER)?;
    swarm(site, "libtorrent", |host, torrent, folder, done| {
        let listen = Site::at(host, PEER_PORT).to_string();
        let mut words = at(host, &[PYTHON, &text(&script), &text(torrent), &text(folder), &listen]);
        words.extend(done.map(text));
        Ok(words)
    })
}

fn by_aria2(site: &Site) -> io::Result<Cast> {
    let scratch = site.scratch("aria2")?;
    swarm(site, "aria2", |host, torrent, folder, done| {
        let port = PEER_PORT.to_string();
        let mut words = at(host, &["aria2c", "--no-conf", "--quiet", "--dir", &text(folder), "--listen-port", &port]);
        let settings = [
            "--enable-dht=false",
            "--bt-enable-lpd=false",
            "--enable-peer-exchange=true",
            "--seed-ratio=0.0",
            "--bt-max-peers=0",
            "--bt-request-peer-speed-limit=1000M",
            "--max-upload-limit=0",
            "--file-allocation=none",
            "--disk-cache=64M",
        ];
        words.extend(settings.map(str::to_owned));
        match done {
            None => words.push("--bt-seed-unverified=true".into()),
            Some(done) => {
                // What is called has no arguments but aria2's own.
                let hook = scratch.join(format!("{}.sh", done.file_name().unwrap_or_default().to_string_lossy()));
                fs::write(&hook, format!("#!/bin/sh\n: >'{}'\n", done.display()))?;
                fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
                words.push(format!("--on-bt-download-complete={}", hook.display()));
            }
        }
        words.push(text(torrent));
        Ok(words)
    })
}

fn at(host: &Host, words: &[&str]) -> Vec<String> {
    host.words().into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Contestant for Spreading {
    fn name(&self) -> String {
        self.name.into()
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn absent(&self) -> Option<String> {
        let missing = self.needs.iter().find(|needed| !installed(needed));
        missing.map(|needed| match *needed {
            LIBTORRENT => "python3-libtorrent is not installed".into(),
            needed => format!("{needed} is not installed"),
        })
    }

    fn command(&self, _target: &Path) -> Command {
        // Where that fails, the check finds what is there out.
        let _ = self.site.clear();
        self.done.iter().for_each(|done| drop(fs::remove_file(done)));
        self.sent_before.set(self.site.source().bytes_sent().unwrap_or(0));
        self.site.worker(&self.program, "cast", &argument(&self.cast))
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let sent = self.site.source().bytes_sent()? - self.sent_before.get();
        let told: CastTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        if let Some(late) = told.late {
            return Err(io::Error::new(io::ErrorKind::TimedOut, late));
        }
        let hosts = self.cast.clients.len();
        self.site.check(hosts)?;
        Ok(Told {
            seconds: Some(told.seconds),
            cpu_seconds: Some(told.cpu_seconds),
            copies: Some(hosts as u64),
            figures: figures(&self.site, told.seconds, sent),
            ..Told::default()
        })
    }
}
