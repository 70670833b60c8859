//! Two hosts of their own, and the path between them: the service's, and one that has joined it from the other end.

use std::{fs, time::Duration};

use serde_json::Value;
use staccato_bench::{
    network::{self, Network, Wiring},
    relay::{Conditions, weather::Weather},
};
use staccato_tests::deployment::{Deployment, Host, on};

/// A path between two data centres.
pub const PATH: Conditions = Conditions {
    delay: Duration::from_millis(10),
    jitter: Duration::ZERO,
    loss: 0.0,
    reordering: 0.0,
    duplication: 0.0,
    rate: Some(400_000_000),
    queue_bytes_max: None,
};

/// The service's host `head`, and `far` at the other end of the path.
pub struct Two<'a> {
    pub deployment: Deployment,
    pub far: Host,
    there: &'a network::Host,
}

impl Two<'_> {
    /// Does something with them, on a thread of the service's host.
    pub fn with(conditions: Conditions, test: impl FnOnce(&mut Two<'_>, &Weather) + Send) {
        let network = Network::build(&Wiring { relay: Some(conditions), ..Wiring::default() }).unwrap();
        let [here, there] = network.hosts() else { panic!("two hosts") };
        let weather = network.relay().expect("there is a relay").weather();
        let done = here.run(|| {
            let deployment = Deployment::start_at(here.address(), &["--heartbeat", "500ms", "--lease", "3s"]);
            let invitation = deployment.invite("far");
            let far = deployment.host("far", &["--listen", &format!("{}:5310", there.address())]);
            let mut two = Two { deployment, far, there };
            two.launch(Some(&invitation));
            test(&mut two, weather);
        });
        done.unwrap();
    }

    /// Starts the executor of `far`, and waits until it has joined.
    pub fn launch(&mut self, invitation: Option<&str>) {
        self.there.run(|| self.far.launch(&self.deployment, invitation)).unwrap();
        self.deployment.wait_until_up("far");
    }

    /// Connections of executors here to those of `far`, and from there. (The service's own are others.)
    pub fn connections(&self) -> usize {
        // This thread's network, not the process's: proc_pid_net(5).
        let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel tells");
        let u32 = |text: &str| u32::from_str_radix(text, 16).expect("a number");
        let far = u32::from_ne_bytes(self.there.address().octets());
        let end = |text: &str| text.split_once(':').map(|(address, port)| (u32(address), u32(port))).expect("an end");
        let with_far = |line: &&str| {
            let [_, local, remote, state, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { return false };
            let is_open = state == "01";
            is_open && end(remote).0 == far && end(local).1 != u32::from(self.deployment.port())
        };
        table.lines().skip(1).filter(with_far).count()
    }

    /// Puts an object on the service's host, and lets the other one fetch it.
    pub fn submit(&self, name: &str, bytes: &[u8], more: Value) -> String {
        let service = &self.deployment.service;
        service.write(name, bytes);
        service.submit(&on("head", &service.path(name)), &self.far.file(name), more)
    }

    /// Waits until it is there.
    pub fn complete(&self, id: &str, name: &str, bytes: &[u8]) -> Value {
        let document = self.deployment.service.complete(id);
        assert!(fs::read(self.far.path(name)).unwrap() == bytes, "{name}: {document:#}\n{}", self.far.log());
        document
    }
}
