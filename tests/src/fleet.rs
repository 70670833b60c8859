//! Hosts with an executor each, and objects that are distributed to them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    deployment::{Deployment, Host},
    service::{PATIENCE, names, scratch},
};

/// What executors of a fleet are told of heartbeats and leases: short, so that whoever dies is soon missed.
pub const SHORT_LEASES: [&str; 4] = ["--heartbeat", "500ms", "--lease", "2s"];
/// What objects are called where they arrive.
const COPY: &str = "image";

/// See the module. Hosts are called `h0`, `h1` and so on, two in each rack. Their roots lie in one folder, so that a template
/// can name them.
pub struct Fleet {
    /// The service that they have joined.
    pub deployment: Deployment,
    /// The hosts.
    pub hosts: Vec<Host>,
    folder: tempfile::TempDir,
}

impl Fleet {
    /// Four hosts; `arguments` are added to `staccato serve`.
    pub fn start(arguments: &[&str]) -> Self {
        let mut fleet = Self::of(Deployment::start(arguments));
        (0..4).for_each(|number| fleet.join(number, &[]));
        fleet
    }

    /// No hosts yet.
    pub fn of(deployment: Deployment) -> Self {
        let folder = tempfile::tempdir_in(scratch()).expect("a folder can be made");
        Self { deployment, hosts: Vec::new(), folder }
    }

    /// Lets the next host join; `arguments` are added to `staccato executor`.
    pub fn join(&mut self, number: usize, arguments: &[&str]) {
        let host = self.next_host(number, arguments);
        let invitation = self.deployment.invite(&host.name);
        self.hosts.push(host);
        self.hosts[number].launch(&self.deployment, Some(&invitation));
        self.deployment.wait_until_up(&format!("h{number}"));
    }

    /// The next host, whose executor does not run yet.
    pub fn next_host(&self, number: usize, arguments: &[&str]) -> Host {
        assert_eq!(number, self.hosts.len(), "hosts join one after the other");
        let (name, rack) = (format!("h{number}"), format!("r{}", number / 2));
        let root = self.root(number);
        fs::create_dir_all(&root).expect("a folder can be made");
        let root = format!("{}:rw", root.display());
        let own = ["--rack", &rack, "--label", "kind=test", "--root", &root];
        self.deployment.host(&name, &[&own, arguments].concat())
    }

    /// The root of a host in which its copies are; it can be mounted before the host joins.
    pub fn root(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("h{number}"))
    }

    /// Where a host's copy is, once it is whole.
    pub fn copy(&self, number: usize) -> PathBuf {
        self.root(number).join(COPY)
    }

    /// Where a host's copy is, while it is not.
    pub fn partial(&self, number: usize) -> Option<PathBuf> {
        let root = self.root(number);
        names(&root).into_iter().find(|name| name.contains("staccato")).map(|name| root.join(name))
    }

    /// The destinations: a copy at each host.
    pub fn template(&self) -> String {
        format!("file://{{host}}{}/{{host}}/{COPY}", self.folder.path().display())
    }

    /// Kills a host's executor (SIGKILL).
    pub fn kill(&mut self, number: usize) {
        self.hosts[number].kill();
    }

    /// Starts a host's executor again.
    pub fn launch(&mut self, number: usize) {
        self.hosts[number].launch(&self.deployment, None);
    }

    /// Distributes an object to some of the hosts; the id of that.
    pub fn distribute(&self, source: &str, to: impl IntoIterator<Item = usize>, more: Value) -> String {
        let mut body = json!({"source_url": source, "destination_url": self.template(), "hosts": hosts(to)});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("options are an object").clone());
        self.post(&body)
    }

    /// Asks for a distribution; the id of that.
    pub fn post(&self, body: &Value) -> String {
        let answer = self.deployment.service.post("/v1/distributions", body);
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.body["id"].as_str().expect("a distribution has an id").to_owned()
    }

    /// Adds hosts to a distribution.
    pub fn add(&self, id: &str, to: impl IntoIterator<Item = usize>) {
        let path = format!("/v1/distributions/{id}/hosts");
        let answer = self.deployment.service.post(&path, &json!({"hosts": hosts(to)}));
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }

    /// Waits until a distribution's document is such.
    pub fn look_until(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/distributions/{id}");
        self.wait_until(id, what, || Some(self.deployment.service.get(&path).body).filter(&is_so))
    }

    /// A host's line in a distribution.
    pub fn member(&self, id: &str, number: usize) -> Value {
        let all = self.deployment.service.get(&format!("/v1/distributions/{id}/members")).body;
        let name = format!("h{number}");
        let found = all.as_array().and_then(|all| all.iter().find(|member| member["host"] == name));
        found.cloned().unwrap_or_default()
    }

    /// Waits until so many bytes are durable at a host.
    pub fn wait_for_progress(&self, id: &str, number: usize, bytes: usize) -> Value {
        let what = format!("h{number} has {bytes} bytes");
        let is_so = |member: &Value| member["progress"].as_u64().unwrap_or(0) >= bytes as u64;
        self.wait_until(id, &what, || Some(self.member(id, number)).filter(is_so))
    }

    /// Waits until a host has the object, and compares the bytes.
    pub fn wait_for_copy(&self, id: &str, number: usize, bytes: &[u8]) -> Value {
        let is_over = |member: &Value| ["STATE_COMPLETE", "STATE_ERROR"].iter().any(|state| member["state"] == *state);
        let what = format!("h{number} has ended");
        let member = self.wait_until(id, &what, || Some(self.member(id, number)).filter(is_over));
        assert_eq!(member["state"], "STATE_COMPLETE", "{member:#}\n{}", self.told(id));
        assert!(fs::read(self.copy(number)).expect("a copy is there") == bytes, "h{number}: the bytes differ");
        member
    }

    /// Waits until all hosts of a distribution have ended well, and looks at what they have: so many copies of these bytes,
    /// nothing beside them, and no more was read of the source than the budget says. Its document.
    pub fn complete(&self, id: &str, copies: impl IntoIterator<Item = usize>, bytes: &[u8]) -> Value {
        for number in copies {
            self.wait_for_copy(id, number, bytes);
            assert_eq!(names(&self.root(number)), [COPY], "h{number}: nothing else is left");
        }
        let document = self.look_until(id, "its end is noted", |one| one["finished_at"].is_string());
        assert_eq!(document["state"], "STATE_COMPLETE", "{}", self.told(id));
        let budget = document["source_budget"].as_f64().expect("a number") * bytes.len() as f64;
        assert!(document["bytes_from_source"].as_f64().expect("a number") <= budget, "{document:#}");
        document
    }

    /// Waits for something of a distribution; panics with all that is known of it.
    fn wait_until(&self, id: &str, what: &str, mut condition: impl FnMut() -> Option<Value>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.told(id));
            sleep(Duration::from_millis(20));
        }
    }

    /// What is known of a distribution, for whoever reads why a test failed.
    pub fn told(&self, id: &str) -> String {
        let service = &self.deployment.service;
        let document = service.get(&format!("/v1/distributions/{id}")).body;
        let mut told = format!("{document:#}\nthe service:\n{}", service.log());
        for (number, host) in self.hosts.iter().enumerate() {
            let member = self.member(id, number);
            let transfer = member["transfer"].as_str().map(|id| service.get(&format!("/v1/transfers/{id}")).body);
            write!(told, "\nh{number}: {:#}\n{}", transfer.unwrap_or_default(), host.log()).expect("text grows");
        }
        told
    }
}

fn hosts(numbers: impl IntoIterator<Item = usize>) -> Value {
    json!({"names": numbers.into_iter().map(|number| format!("h{number}")).collect::<Vec<_>>()})
}

/// Whether a file begins with these bytes.
pub fn begins_with(file: &Path, bytes: &[u8]) -> bool {
    fs::read(file).is_ok_and(|found| found.starts_with(bytes))
}
