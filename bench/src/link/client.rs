//! The commands of `staccato` that talk to a service, as the bench uses them: whatever service a user reaches, by TLS, token or
//! socket, the bench reaches in the same way.

use std::{
    io,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A client of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// The words of a command but for what it shall do.
    words: Vec<String>,
    /// Whether settings in the environment of whoever measures are for it.
    is_theirs: bool,
}

/// An executor, as the service tells of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Executor {
    /// Its host.
    pub name: String,
    /// `up`, `down` or `new`.
    pub health: String,
    /// Links over which it has read.
    #[serde(default)]
    links: Vec<Link>,
}

/// A link of an executor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Link {
    /// The host at the other end.
    host: String,
    /// What `auto` does on it: nothing while every transfer has named its transport.
    #[serde(flatten)]
    chosen: Option<Chosen>,
}

/// What `auto` does on a link.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Chosen {
    /// The transport in use.
    pub transport: String,
    /// Why it is.
    pub reason: String,
}

impl Client {
    /// Of a service of the bench's own: these words are all that it needs.
    pub fn of_own(words: Vec<String>) -> Self {
        Self { words, is_theirs: false }
    }

    /// Of a service of whoever measures.
    pub fn of_theirs(words: Vec<String>) -> Self {
        Self { words, is_theirs: true }
    }

    /// The answer to a command, as its `--json` prints it. A command that fails is an error with what it said.
    pub fn ask(&self, command: &[&str]) -> io::Result<Value> {
        let [program, arguments @ ..] = &self.words[..] else { return Err(io::Error::other("no client")) };
        let mut asked = Command::new(program);
        asked.args(arguments).arg("--json").args(command).stdin(Stdio::null());
        if !self.is_theirs {
            without_settings(&mut asked);
        }
        let output = asked.output().map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        if !output.status.success() {
            return Err(io::Error::other(why(&String::from_utf8_lossy(&output.stderr))));
        }
        if output.stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }

    /// The executors that the service knows.
    pub fn executors(&self) -> io::Result<Vec<Executor>> {
        serde_json::from_value(self.ask(&["executors"])?).map_err(io::Error::other)
    }

    /// What `auto` does where `reader` reads from `owner`; nothing where it has not read by `auto` yet.
    pub fn chosen(&self, reader: &str, owner: &str) -> io::Result<Option<Chosen>> {
        let executors = self.executors()?.into_iter().filter(|one| one.name == reader);
        let mut links = executors.flat_map(|one| one.links);
        Ok(links.find(|link| link.host == owner).and_then(|link| link.chosen))
    }
}

/// Without what is set for whoever measures: a service of the bench's own has nothing to do with it.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STACCATO_") {
            command.env_remove(name);
        }
    }
}

/// The sentence in what a command says when it fails: `{"error": {"message": ...}}` on its last line, or what is there.
fn why(said: &str) -> String {
    let last = said.trim().lines().last().unwrap_or_default();
    let document: Option<Value> = serde_json::from_str(last).ok();
    let message = document.and_then(|document| Some(document["error"]["message"].as_str()?.to_owned()));
    message.unwrap_or_else(|| said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_is_told() {
        let said = "a log line\n{\"error\":{\"code\":null,\"exit\":5,\"message\":\"nobody listens\"}}\n";
        assert_eq!(why(said), "nobody listens");
        assert_eq!(why("error: unexpected argument\n"), "error: unexpected argument");
    }

    #[test]
    fn a_command_is_asked_and_its_failure_is_an_error() {
        let shell = |script: &str| Client::of_own(["sh", "-c", script, "sh"].map(str::to_owned).into());
        let answer = shell(r#"echo "[\"$1\", \"$2\"]""#).ask(&["executors"]).unwrap();
        assert_eq!(answer, serde_json::json!(["--json", "executors"]));
        assert_eq!(shell("true").ask(&["delete"]).unwrap(), Value::Null);
        let executors = r#"[{"name": "b", "health": "up", "links": [
            {"host": "a", "transport": null, "reason": null, "delay_ms": 1.5},
            {"host": "c", "transport": "quic", "reason": "measured"}]}]"#;
        let told = shell(&format!("echo '{executors}'"));
        assert_eq!(told.chosen("b", "a").unwrap(), None, "every transfer has named its transport");
        assert_eq!(told.chosen("b", "c").unwrap().map(|chosen| chosen.transport), Some("quic".into()));
        assert_eq!(told.chosen("a", "b").unwrap(), None);
        let failed = shell(r#"echo '{"error": {"message": "no rights"}}' >&2; exit 6"#).ask(&[]).unwrap_err();
        assert_eq!(failed.to_string(), "no rights");
    }
}
