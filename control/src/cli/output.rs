//! What commands print.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::{
    config::display_size,
    model::{State, TransferDocument},
};

/// Prints a line of the result. A reader that has gone away (`staccato list | head`) is no error.
pub(super) fn line(text: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a document as JSON, for people to read as well.
pub(super) fn json(document: &Value) {
    line(serde_json::to_string_pretty(document).expect("a value is always JSON"));
}

/// A transfer on one line.
pub(super) fn row(transfer: &TransferDocument) -> String {
    format!(
        "{}  {:<16} {:>9}  {} -> {}",
        transfer.id,
        transfer.state,
        done(transfer),
        transfer.source_url,
        transfer.destination_url
    )
}

/// The head of a list of [`row`]s.
pub(super) fn row_head() -> String {
    format!("{:<36}  {:<16} {:>9}  SOURCE -> DESTINATION", "ID", "STATE", "DONE")
}

/// How far a transfer is.
pub(super) fn done(transfer: &TransferDocument) -> String {
    share(transfer.state, transfer.progress, transfer.bytes_total)
}

/// How far something is of which so many bytes are done.
pub(super) fn share(state: State, progress: u64, total: Option<u64>) -> String {
    match total {
        Some(0) if state == State::Complete => "100 %".into(),
        Some(total) if total > 0 => {
            // Rounded down: 100 % is said of nothing that is not whole.
            format!("{} %", u128::from(progress) * 100 / u128::from(total))
        }
        _ if progress > 0 => approximate(progress),
        _ => "-".into(),
    }
}

/// Everything about a transfer, one fact on a line.
pub(super) fn facts(transfer: &TransferDocument) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("id", transfer.id.clone()),
        ("state", transfer.state.to_string()),
        ("source", transfer.source_url.clone()),
        ("destination", transfer.destination_url.clone()),
        ("owner", transfer.owner.clone()),
        ("progress", format!("{} ({})", transfer.progress, done(transfer))),
    ];
    let mut maybe = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    maybe("bytes total", transfer.bytes_total.map(|bytes| bytes.to_string()));
    maybe("bytes fetched", Some(transfer.bytes_fetched.to_string()));
    let is_part = transfer.start_offset != 0 || transfer.end_offset != -1;
    maybe("part", is_part.then(|| format!("{} to {}", transfer.start_offset, transfer.end_offset)));
    maybe("throughput", transfer.throughput.map(|rate| format!("{}/s", approximate(rate))));
    maybe("time left", transfer.eta.map(|seconds| format!("{seconds} s")));
    maybe("distribution", transfer.distribution.clone());
    maybe("crc32", transfer.crc32.clone());
    maybe("checksum", transfer.checksum.clone());
    maybe("priority", Some(transfer.priority.to_string()));
    maybe("overwrite", Some(transfer.overwrite.clone()));
    maybe("attempts", Some(transfer.attempts.to_string()));
    maybe("retries", Some(transfer.retries.to_string()));
    maybe("rate limit", transfer.rate_limit.map(|rate| format!("{}/s", display_size(rate))));
    maybe("chunk size", transfer.chunk_size.map(display_size));
    maybe("connections", transfer.connections.map(|connections| connections.to_string()));
    for (side, options) in [("source", &transfer.source_options), ("destination", &transfer.destination_options)] {
        for (name, value) in options {
            maybe("option", Some(format!("{side} {name}={value}")));
        }
    }
    maybe("created", Some(transfer.created_at.clone()));
    maybe("started", transfer.started_at.clone());
    maybe("updated", Some(transfer.updated_at.clone()));
    maybe("finished", transfer.finished_at.clone());
    maybe("not before", transfer.not_before.clone());
    let retry = |retryable| if retryable { "may pass" } else { "stays until something is changed" };
    maybe("error", transfer.error.as_ref().map(|error| format!("{}: {}", error.code, error.message)));
    maybe("error is", transfer.error.as_ref().map(|error| retry(error.retryable).to_owned()));
    for event in &transfer.events {
        maybe("event", Some(format!("{} {}: {}", event.at, event.kind, event.message)));
    }
    facts
}

/// A number of bytes for people.
pub(super) fn approximate(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
