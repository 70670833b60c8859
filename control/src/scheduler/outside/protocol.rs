//! The lines between the service and a plug-in from outside, as `scheduler-plugins/PROTOCOL.md` describes them. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use staccato_scheduler_plugins::{
    Decision, Executor, Link, Running, Snapshot, Uuid, Waiting, contract::REASON_BYTES_MAX,
};

use crate::model::transfer::bounded;

/// The version of the protocol that is spoken here.
pub(super) const VERSION: u32 = 1;
/// Longest line of a plug-in, in bytes: four times what 1,024 decisions with the longest reasons take.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest name of a plug-in, in bytes.
const NAME_BYTES_MAX: usize = 40;

/// What a plug-in says at its start.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    #[serde(rename = "protocol")]
    _protocol: u32,
    name: String,
}

/// The only part of a hello that every version has.
#[derive(Deserialize)]
struct Version {
    protocol: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    number: u64,
    decisions: Vec<Chosen>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    id: Uuid,
    reason: String,
}

/// The name in a hello, or what is wrong with it.
pub(super) fn name_in(line: &[u8]) -> Result<String, String> {
    let Version { protocol } = parse(line)?;
    if protocol != VERSION {
        return Err(format!("it speaks version {protocol} of the protocol, and this service version {VERSION}"));
    }
    let Hello { name, .. } = parse(line)?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if !plain || name.len() > NAME_BYTES_MAX {
        return Err(format!("the name {name:?} is not 1 to {NAME_BYTES_MAX} small letters and _"));
    }
    Ok(name)
}

/// The line that shows a snapshot. Executors that do not say how many slots they have are shown with `slots`.
pub(super) fn line_of(number: u64, snapshot: &Snapshot, slots: usize) -> Vec<u8> {
    let question = Question {
        number,
        now_ms: snapshot.now_ms,
        waiting: snapshot.waiting.iter().map(WaitingLine::of).collect(),
        more_waiting: snapshot.more_waiting,
        running: snapshot.running.iter().map(RunningLine::of).collect(),
        executors: snapshot.executors.iter().map(|executor| ExecutorLine::of(executor, slots)).collect(),
    };
    let mut line = serde_json::to_vec(&question).expect("strings and numbers");
    line.push(b'\n');
    line
}

/// The decisions in the answer to snapshot `number`, or what is wrong with it: it counts as a whole, or not at all.
pub(super) fn decisions_in(line: &[u8], number: u64, snapshot: &Snapshot) -> Result<Vec<Decision>, String> {
    let answer: Answer = parse(line)?;
    if answer.number != number {
        return Err(format!("it answers snapshot {}, and was asked about {number}", answer.number));
    }
    let mut waiting: HashMap<Uuid, bool> = snapshot.waiting.iter().map(|transfer| (transfer.id, false)).collect();
    let mut decisions = Vec::with_capacity(answer.decisions.len().min(waiting.len()));
    for Chosen { id, reason } in answer.decisions {
        match waiting.get_mut(&id) {
            None => return Err(format!("{id} does not wait in the snapshot")),
            Some(true) => return Err(format!("{id} is started twice")),
            Some(started) => *started = true,
        }
        if reason.trim().is_empty() {
            return Err(format!("{id} is started without a reason"));
        }
        decisions.push(Decision { id, reason: bounded(&reason, REASON_BYTES_MAX) });
    }
    Ok(decisions)
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Question<'a> {
    number: u64,
    now_ms: u64,
    waiting: Vec<WaitingLine<'a>>,
    more_waiting: bool,
    running: Vec<RunningLine<'a>>,
    executors: Vec<ExecutorLine<'a>>,
}

#[derive(Serialize)]
struct WaitingLine<'a> {
    id: Uuid,
    priority: u8,
    owner: &'a str,
    submitted_ms: u64,
    link: LinkLine<'a>,
    at: Option<&'a str>,
}

#[derive(Serialize)]
struct RunningLine<'a> {
    id: Uuid,
    priority: u8,
    owner: &'a str,
    link: LinkLine<'a>,
    at: Option<&'a str>,
}

#[derive(Serialize)]
struct LinkLine<'a> {
    source: &'a str,
    destination: &'a str,
}

#[derive(Serialize)]
struct ExecutorLine<'a> {
    name: &'a str,
    slots: usize,
}

// Field by field: one that the contract gets later is shown to nobody before it is named here.
impl<'a> WaitingLine<'a> {
    fn of(transfer: &'a Waiting) -> Self {
        let Waiting { id, priority, owner, submitted_ms, link, at } = transfer;
        Self {
            id: *id,
            priority: *priority,
            owner,
            submitted_ms: *submitted_ms,
            link: LinkLine::of(link),
            at: at.as_deref(),
        }
    }
}

impl<'a> RunningLine<'a> {
    fn of(transfer: &'a Running) -> Self {
        let Running { id, priority, owner, link, at } = transfer;
        Self { id: *id, priority: *priority, owner, link: LinkLine::of(link), at: at.as_deref() }
    }
}

impl<'a> LinkLine<'a> {
    fn of(link: &'a Link) -> Self {
        Self { source: &link.source, destination: &link.destination }
    }
}

impl<'a> ExecutorLine<'a> {
    fn of(executor: &'a Executor, slots: usize) -> Self {
        Self { name: &executor.name, slots: executor.slots.unwrap_or(slots) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let (id, at) = (Uuid::from_u128(7), Some("h2".to_owned()));
        let link = Link { source: "h1".into(), destination: "h2".into() };
        let waiting =
            Waiting { id, priority: 5, owner: "o".into(), submitted_ms: 3, link: link.clone(), at: at.clone() };
        let running = Running { id: Uuid::from_u128(6), priority: 9, owner: "p".into(), link, at: None };
        let executors = vec![Executor { name: "h2".into(), slots: None }];
        Snapshot { now_ms: 4, waiting: vec![waiting], more_waiting: true, running: vec![running], executors }
    }

    /// The document holds these very lines.
    #[test]
    fn lines_are_as_they_are_documented() {
        let page = include_str!("../../../../scheduler-plugins/PROTOCOL.md");
        let line = String::from_utf8(line_of(7, &snapshot(), 4)).unwrap();
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
        let documented = |with: &str| page.lines().find(|line| line.contains(with)).expect("the document has it");
        assert_eq!(documented("\"more_waiting\":").trim(), line.trim());
        let decisions = decisions_in(documented("\"decisions\":").as_bytes(), 7, &snapshot()).unwrap();
        assert_eq!(decisions.len(), 1);
        assert_eq!(name_in(documented("\"protocol\":").as_bytes()).unwrap(), "link_budget");
    }

    #[test]
    fn a_hello_says_its_version_and_a_plain_name() {
        assert_eq!(name_in(br#"{"protocol": 1, "name": "fair"}"#).unwrap(), "fair");
        for (hello, why) in [
            (r#"{"protocol": 2, "name": "fair", "more": 1}"#, "version 2"),
            (r#"{"name": "fair"}"#, "protocol"),
            (r#"{"protocol": 1}"#, "name"),
            (r#"{"protocol": 1, "name": "fair", "more": 1}"#, "more"),
            (r#"{"protocol": 1, "name": "Fair 2"}"#, "small letters"),
            (r#"{"protocol": 1, "name": ""}"#, "small letters"),
            ("hello", "expected"),
        ] {
            let said = name_in(hello.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{hello}: {said}");
        }
    }

    #[test]
    fn an_answer_counts_as_a_whole_or_not_at_all() {
        let id = Uuid::from_u128(7);
        let answer = |decisions: &str| {
            decisions_in(format!(r#"{{"number": 1, "decisions": [{decisions}]}}"#).as_bytes(), 1, &snapshot())
        };
        let start = |id: Uuid, reason: &str| format!(r#"{{"id": "{id}", "reason": "{reason}"}}"#);
        assert_eq!(answer("").unwrap(), []);
        assert_eq!(answer(&start(id, "a\\nb")).unwrap(), [Decision { id, reason: "a b".into() }]);
        let long = answer(&start(id, &"ä".repeat(150))).unwrap();
        assert_eq!(long[0].reason, format!("{}...", "ä".repeat(98)));
        let once = start(id, "why");
        for (decisions, why) in [
            (format!("{once}, {}", start(Uuid::from_u128(8), "why")), "does not wait"),
            (start(Uuid::from_u128(6), "it runs already"), "does not wait"),
            (format!("{once}, {once}"), "twice"),
            (start(id, " "), "without a reason"),
            (format!(r#"{{"id": "{id}"}}"#), "reason"),
            (format!(r#"{{"id": "{id}", "reason": "why", "extra": 1}}"#), "extra"),
            (r#"{"id": "x", "reason": "why"}"#.to_owned(), "x"),
        ] {
            let said = answer(&decisions).unwrap_err();
            assert!(said.contains(why), "{decisions}: {said}");
        }
        let said = decisions_in(br#"{"number": 2, "decisions": []}"#, 1, &snapshot()).unwrap_err();
        assert!(said.contains("asked about 1"), "{said}");
    }
}
