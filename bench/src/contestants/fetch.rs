//! Who fetches an object from a server, which lives as long as they do.

use std::{io, path::Path, process::Command, rc::Rc};

use super::{Attempt, Rival};
use crate::{
    contest::{Contestant, Told},
    measure::Ended,
    record::Kind,
    server::Nginx,
    worker::Program,
};

/// An attempt of ours that reads from a server; to nowhere it is the limit of one that goes to a file.
pub struct Fetch {
    /// None where there is no nginx: then nobody can take part.
    server: Option<Rc<Nginx>>,
    attempt: Attempt,
    to_null: bool,
}

impl Fetch {
    /// To the case's target.
    pub fn new(program: &Program, server: Option<&Rc<Nginx>>, secure: bool, object: &str) -> io::Result<Self> {
        let mut attempt = Attempt::new(program, "staccato", String::new());
        if let Some(server) = server {
            attempt = Attempt::new(program, "staccato", format!("{}/{object}", server.origin(secure)));
            if secure {
                attempt = attempt.with(format!("--source-option=ca={}", std::fs::read_to_string(server.root())?));
            }
        }
        Ok(Self { server: server.cloned(), attempt, to_null: false })
    }

    /// To nowhere.
    pub fn to_null(self) -> Self {
        Self { attempt: self.attempt.to("null:///nowhere"), to_null: true, ..self }
    }
}

impl Contestant for Fetch {
    fn name(&self) -> String {
        if self.to_null { "limit: staccato to null".into() } else { self.attempt.name() }
    }

    fn kind(&self) -> Kind {
        if self.to_null { Kind::Limit } else { Kind::Ours }
    }

    fn absent(&self) -> Option<String> {
        self.server.is_none().then(|| "nginx is not installed".into())
    }

    fn command(&self, target: &Path) -> Command {
        self.attempt.command(target)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn writes_target(&self) -> bool {
        !self.to_null
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        self.attempt.interpret(ended)
    }
}

/// Tools that fetch the object from a server: one connection, and eight.
pub fn fetch_rivals(server: &Nginx, secure: bool, object: &str) -> Vec<Rival> {
    let (origin, root) = (server.origin(secure), server.root().display().to_string());
    let url = format!("{origin}/{object}");
    let aria2 = ["-q", "-x8", "-s8", "-k1M", "--file-allocation=none", "-d", "{folder}", "-o", "{name}"];
    let aria2: Vec<&str> = aria2.into_iter().chain(["--ca-certificate", &root, &url]).collect();
    let remote = format!(":http:{object}");
    let rclone = ["copyto", "--multi-thread-streams=8", "--multi-thread-cutoff=1M", "--ca-cert", &root];
    let rclone: Vec<&str> = rclone.into_iter().chain(["--http-url", &origin, &remote, "{to}"]).collect();
    vec![
        Rival::new("curl", "curl", &["-sSf", "--cacert", &root, "-o", "{to}", &url]),
        Rival::new("aria2c x8", "aria2c", &aria2),
        Rival::new("rclone x8", "rclone", &rclone),
    ]
}
