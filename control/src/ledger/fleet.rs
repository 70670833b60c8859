//! Executors and their hosts: who has joined, who was heard when, and what each may be asked for. Pure: time is an
//! argument, a duration on the process's monotonic clock.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use staccato_dataplane::transport::peers::{LinkReport, Refusals};
use staccato_protocols::{
    Registry,
    file::{FileProtocol, Roots},
};

use crate::{
    config::OwnedRoot,
    model::{
        host::{Announcement, HostName, HostRecord},
        word::Word,
    },
    policy::Policy,
};

/// See the module.
#[derive(Default)]
pub struct Fleet {
    hosts: BTreeMap<HostName, Host>,
    /// The service's own executor, once it has joined.
    own: Option<Live>,
    /// Which host an instance is of; the service's own has no name here.
    instances: HashMap<String, String>,
    /// Grows whenever another executor can be given something, or one cannot any more.
    version: u64,
}

/// A host that has enrolled.
pub struct Host {
    /// What is stored of it.
    pub record: HostRecord,
    /// What its files may be used for, and by whom.
    pub files: Arc<Files>,
    live: Option<Live>,
    /// Whether it counted as up when that was last looked at.
    was_up: bool,
}

/// The files of a host, as far as URLs tell.
#[derive(Default)]
pub struct Files {
    /// Its roots.
    pub registry: Registry,
    /// Whose they are.
    pub policy: Policy,
}

/// An executor that has joined.
#[derive(Clone, Debug)]
pub struct Live {
    /// Which process of it.
    pub instance: String,
    /// What it said of itself.
    pub announced: Announcement,
    /// When it was last heard.
    pub heard: Duration,
    /// What it said of its links to other hosts.
    pub links: Vec<LinkReport>,
    /// Whom it has turned away since it started.
    pub refusals: Refusals,
}

impl Files {
    fn of(announced: &Announcement) -> Self {
        // What cannot be read is of a newer version, and nobody's here.
        let roots: Vec<OwnedRoot> = announced.roots.iter().filter_map(|root| root.parse().ok()).collect();
        let files = Roots::new(roots.iter().map(|root| root.root.clone()).collect());
        Self { registry: Registry::new().with(FileProtocol::new(files)), policy: Policy::new(&roots) }
    }
}

impl Fleet {
    /// Takes in what is stored of a host.
    pub fn enrolled(&mut self, record: HostRecord) {
        let files = Arc::new(Files::of(&record.announced));
        let live = self.hosts.get(&record.name).filter(|host| host.record.key == record.key);
        let live = live.and_then(|host| host.live.clone());
        self.hosts.insert(record.name.clone(), Host { record, files, live, was_up: false });
        self.version += 1;
    }

    /// Forgets a host; the instance of it that had joined.
    pub fn forget(&mut self, name: &HostName) -> Option<String> {
        let host = self.hosts.remove(name)?;
        self.version += 1;
        let instance = host.live?.instance;
        self.instances.remove(&instance);
        Some(instance)
    }

    /// An executor of `host` (the service's own has no name) joins; the instance whose place it takes.
    pub fn joined(&mut self, host: &str, instance: &str, announced: Announcement, now: Duration) -> Option<String> {
        let (links, refusals) = (Vec::new(), Refusals::default());
        let live = Live { instance: instance.to_owned(), announced, heard: now, links, refusals };
        let before = match self.hosts.iter_mut().find(|(name, _)| name.as_str() == host) {
            Some((_, known)) => known.live.replace(live),
            None if host.is_empty() => self.own.replace(live),
            None => return None,
        };
        self.version += 1;
        self.instances.insert(instance.to_owned(), host.to_owned());
        let before = before.filter(|before| before.instance != instance)?;
        self.instances.remove(&before.instance);
        Some(before.instance)
    }

    /// An executor has said that it ends, or was seen to.
    pub fn left(&mut self, instance: &str) {
        let Some(host) = self.instances.remove(instance) else { return };
        let live = match self.hosts.iter_mut().find(|(name, _)| name.as_str() == host) {
            Some((_, known)) => &mut known.live,
            None => &mut self.own,
        };
        live.take_if(|live| live.instance == instance);
        self.version += 1;
    }

    /// An executor has said something; `false` when it has not joined.
    pub fn heard(&mut self, instance: &str, now: Duration) -> bool {
        self.live_mut(instance).map(|live| live.heard = now).is_some()
    }

    /// An executor has said what it knows of its links to other hosts, and whom it has turned away.
    pub fn note_neighbours(&mut self, instance: &str, links: Vec<LinkReport>, refusals: Refusals) {
        if let Some(live) = self.live_mut(instance) {
            (live.links, live.refusals) = (links, refusals);
        }
    }

    fn live_mut(&mut self, instance: &str) -> Option<&mut Live> {
        let host = self.instances.get(instance)?;
        match self.hosts.iter_mut().find(|(name, _)| name.as_str() == host) {
            Some((_, known)) => known.live.as_mut(),
            None => self.own.as_mut(),
        }
    }

    /// The host of an instance: one that has not joined is the service's own.
    pub fn host_of(&self, instance: &str) -> &str {
        self.instances.get(instance).map_or("", String::as_str)
    }

    /// Whether `instance` has joined, as an executor of `host`.
    pub fn speaks_for(&self, host: &HostName, instance: &str) -> bool {
        self.instances.get(instance).is_some_and(|of| of == host.as_str())
    }

    /// The host whose executor has this key.
    pub fn host_of_key(&self, key: &str) -> Option<&HostName> {
        self.hosts.values().find(|host| host.record.key == key).map(|host| &host.record.name)
    }

    /// What is known of a host.
    pub fn host(&self, name: &str) -> Option<&Host> {
        // A text that is no name is nobody's.
        self.hosts.get(&name.parse().ok()?)
    }

    /// All that have enrolled.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The service's own executor, once it has joined.
    pub fn own(&self) -> Option<&Live> {
        self.own.as_ref()
    }

    /// The executor of a host (the service's own has no name), if it has joined and was heard since `now - patience`.
    pub fn up(&self, host: &str, now: Duration, patience: Duration) -> Option<&Live> {
        let live = if host.is_empty() { self.own.as_ref() } else { self.host(host)?.live.as_ref() };
        live.filter(|live| now < live.heard + patience)
    }

    /// Where executors of other hosts can reach this one's objects, and the key of its certificate.
    pub fn address_of(&self, host: &str) -> Option<(SocketAddr, Vec<SocketAddr>, bool)> {
        let live = if host.is_empty() { self.own.as_ref() } else { self.host(host)?.live.as_ref() }?;
        let Announcement { address, quic, plain, .. } = &live.announced;
        address.map(|address| (address, quic.iter().map(|port| SocketAddr::new(address.ip(), *port)).collect(), *plain))
    }

    /// The rack of a host, where its executor has told one.
    pub fn rack_of(&self, host: &str) -> Option<&Word> {
        let live = if host.is_empty() { self.own.as_ref() } else { self.host(host)?.live.as_ref() };
        live?.announced.rack.as_ref()
    }

    /// The key in the certificate of a host's executor, in hex.
    pub fn key_of(&self, host: &str) -> Option<&str> {
        match host {
            "" => self.own.as_ref()?.announced.key.as_deref(),
            name => Some(&self.host(name)?.record.key),
        }
    }

    /// Looks which hosts are up, and grows the version where that has changed.
    pub fn look(&mut self, now: Duration, patience: Duration) -> u64 {
        for host in self.hosts.values_mut() {
            let is_up = host.live.as_ref().is_some_and(|live| now < live.heard + patience);
            if std::mem::replace(&mut host.was_up, is_up) != is_up {
                self.version += 1;
            }
        }
        self.version
    }
}

impl Host {
    /// Its executor, if it has joined since the service started.
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const LEASE: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(name: &str, key: &str) -> HostRecord {
        let announced = Announcement { roots: vec!["/srv:rw:alice".into()], ..Announcement::default() };
        HostRecord { name: name.parse().unwrap(), key: key.into(), enrolled_at: Timestamp::from_millis(0), announced }
    }

    #[test]
    fn a_host_is_up_while_it_is_heard_and_has_one_executor() {
        let mut fleet = Fleet::default();
        fleet.enrolled(record("h1", "k1"));
        assert!(fleet.up("h1", at(0), LEASE).is_none() && !fleet.heard("i1", at(0)));
        assert_eq!(fleet.joined("h1", "i1", Announcement::default(), at(0)), None);
        assert!(fleet.up("h1", at(14), LEASE).is_some() && fleet.up("h1", at(15), LEASE).is_none());
        assert!(fleet.heard("i1", at(10)) && fleet.up("h1", at(24), LEASE).is_some());
        assert_eq!(fleet.host_of("i1"), "h1");
        // The same again is no change; a new process takes the place of the one before.
        assert_eq!(fleet.joined("h1", "i1", Announcement::default(), at(20)), None);
        assert_eq!(fleet.joined("h1", "i2", Announcement::default(), at(20)), Some("i1".into()));
        assert!(!fleet.heard("i1", at(20)) && fleet.host_of("i1").is_empty());
        fleet.left("i2");
        assert!(fleet.up("h1", at(20), LEASE).is_none());
        // Nobody joins as a host that has not enrolled.
        fleet.joined("h2", "i3", Announcement::default(), at(20));
        assert!(!fleet.heard("i3", at(20)));
    }

    #[test]
    fn a_host_that_enrols_anew_has_another_key_and_no_executor() {
        let mut fleet = Fleet::default();
        fleet.enrolled(record("h1", "k1"));
        fleet.joined("h1", "i1", Announcement::default(), at(0));
        assert_eq!(fleet.host_of_key("k1").map(HostName::as_str), Some("h1"));
        fleet.enrolled(record("h1", "k1"));
        assert!(fleet.up("h1", at(1), LEASE).is_some(), "what is stored of it has changed, not who it is");
        fleet.enrolled(record("h1", "k2"));
        assert!(fleet.up("h1", at(1), LEASE).is_none() && fleet.host_of_key("k1").is_none());
        assert_eq!(fleet.key_of("h1"), Some("k2"));
        fleet.forget(&"h1".parse().unwrap());
        assert!(fleet.host("h1").is_none() && fleet.key_of("h1").is_none());
    }

    #[test]
    fn who_comes_and_goes_is_seen() {
        let mut fleet = Fleet::default();
        fleet.enrolled(record("h1", "k1"));
        fleet.joined("h1", "i1", Announcement::default(), at(0));
        let first = fleet.look(at(1), LEASE);
        assert_eq!(fleet.look(at(2), LEASE), first);
        let gone = fleet.look(at(15), LEASE);
        assert!(gone > first);
        fleet.heard("i1", at(16));
        assert!(fleet.look(at(17), LEASE) > gone);
    }

    #[test]
    fn its_roots_say_what_may_be_asked_of_a_host() {
        let files = Files::of(&record("h1", "k").announced);
        let url = |text: &str| staccato_protocols::ObjectUrl::parse(text).unwrap();
        assert!(files.registry.destination(&url("file:///srv/x"), &Default::default()).is_ok());
        assert!(files.registry.source(&url("file:///etc/passwd"), &Default::default()).is_err());
        assert!(files.policy.check(&url("file:///srv/x"), "bob", true).is_err());
    }
}
