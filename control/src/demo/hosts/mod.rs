//! `staccato demo --hosts N`: an image on its way between hosts, while executors are killed: from one to the next over QUIC
//! and over TCP, or from four hosts on to all of them at once (`distribution`).
//!
//! The service and each executor are processes as on machines of their own: as root in network namespaces, with all
//! that travels between them in sight of `tcpdump`; else on loopback. Everything goes when this ends.

mod by_hand;
mod deployment;
mod distribution;
mod moves;
mod outcome;

use std::time::Instant;

use serde_json::json;

use super::{
    image::{self, Between},
    progress::{Followed, follow},
    say, text,
};
use deployment::Deployment;
use moves::{Move, Outcome, Victim};

/// How long a transfer takes at least whose executor is killed half-way: what is durable is told once in a second.
const KILLED_SECONDS_MIN: u64 = 4;

/// From so many hosts on, the image goes to all of them at once.
pub const DISTRIBUTED_MIN: usize = 4;

/// How the demonstration is run.
#[derive(Clone, Debug)]
pub struct HostsOptions {
    /// How many hosts have executors; the service is on one of its own.
    pub hosts: usize,
    /// Size of the image in MiB.
    pub mib: u64,
    /// The limit in MiB per second of transfers whose executor is killed, and of each host of a distribution.
    pub rate_mib: u64,
    /// Processes on loopback, even where namespaces could be made.
    pub loopback: bool,
    /// Keep the hosts at the end, until Ctrl-C.
    pub keep: bool,
}

/// Runs the demonstration.
pub async fn run(options: HostsOptions) -> Result<(), String> {
    let folder =
        tempfile::Builder::new().prefix("staccato-demo-").tempdir().map_err(text("make a temporary folder"))?;
    // URLs need the whole path.
    let whole = std::path::absolute(folder.path()).map_err(text("find the temporary folder"))?;
    let mut deployment = Deployment::start(&whole, options.hosts, options.loopback).await?;
    say(&format!("1. Started a service and {} executors, {}:", options.hosts, deployment.what_hosts_are()));
    for line in deployment.table().await? {
        say(&format!("   {line}"));
    }
    if options.hosts >= DISTRIBUTED_MIN {
        return distribution::run(&mut deployment, &options).await;
    }
    let image = deployment.path("h1", "image.raw");
    let bytes = options.mib << 20;
    let data_bytes = image::make(&image, bytes, Between::Holes).map_err(text("make the image"))?;
    let (mib, data_mib) = (options.mib, data_bytes >> 20);
    say(&format!(
        "2. Made an image of {mib} MiB on h1, {data_mib} MiB of it data, the rest holes: {}",
        image.display()
    ));

    let moves = moves::plan(options.hosts);
    let rate_mib = options.rate_mib.min(mib / KILLED_SECONDS_MIN).max(1);
    let mut outcomes = Vec::new();
    for (number, one) in moves.iter().enumerate() {
        outcomes.push(carry_out(&mut deployment, one, number + 3, bytes, rate_mib).await?);
    }
    say("\nEvery byte of each copy was compared with the image (as cmp does):\n");
    moves::table(&outcomes).iter().for_each(|line| say(&format!("  {line}")));
    let twice = match outcomes.iter().all(|outcome| outcome.received.is_some()) {
        true => "what came to the destination's host beyond what comes when nobody is killed",
        false => "as far as the ledger knows; what a killed executor had not told of died with it",
    };
    say(
        "\nMB/s: bytes of the image over the time from the request to its end; where somebody was killed, a limit left time",
    );
    say(&format!("for it. Holes do not travel. Fetched twice: {twice}."));
    if outcomes.iter().any(|outcome| !outcome.is_equal) {
        return Err("a copy differs from the image".into());
    }
    if options.keep {
        say("\nThe hosts are there until you press Ctrl-C. Now by hand:\n");
        by_hand::here(&deployment, moves.last().expect("there are moves")).iter().for_each(|line| say(line));
        return std::future::pending().await;
    }
    say("\nThe same by hand, line by line (on hosts of your own: \"Two hosts in five minutes\" in README.md):\n");
    by_hand::on_loopback(&super::program()).iter().for_each(|line| say(line));
    Ok(())
}

async fn carry_out(
    deployment: &mut Deployment,
    one: &Move,
    number: usize,
    bytes: u64,
    rate_mib: u64,
) -> Result<Outcome, String> {
    let Move { from, to, transport, .. } = one;
    let mut body = json!({
        "source_url": deployment.url(from, &one.source),
        "destination_url": deployment.url(to, &one.destination),
        "transport": transport,
    });
    let mut told = String::new();
    if let Some(victim) = one.victim {
        body["rate_limit"] = (rate_mib << 20).into();
        told = format!(", limited to {rate_mib} MiB/s; half-way the executor of {} gets SIGKILL", one.host_of(victim));
    }
    say(&format!("{number}. From {from} to {to} over {transport}{told}"));
    let client = deployment.client();
    let received = deployment.received(to);
    let began = Instant::now();
    let created = client.post("/v1/transfers", &body).await.map_err(|error| error.to_string())?.body;
    let id = created["id"].as_str().ok_or("the service gave the transfer no id")?.to_owned();
    let mut kill = || {
        let host = one.host_of(one.victim.unwrap_or(Victim::Destination));
        let (killed, started) = deployment.kill_and_start(host)?;
        Ok(format!(
            "   Killed the executor of {host} (pid {killed}) and started it again (pid {started}), as systemd would"
        ))
    };
    let half_way = one.victim.is_some().then_some(&mut kill as _);
    let followed = follow(&client, &id, bytes, half_way).await;
    let seconds = began.elapsed().as_secs_f64();
    let Followed { document, .. } = followed.map_err(|why| format!("{why}\n{}", deployment.logs()))?;
    let received = deployment.received(to).zip(received).map(|(after, before)| after - before);
    let image = deployment.path("h1", "image.raw");
    let equal = image::compare(&image, &deployment.path(to, &one.destination));
    if let Err(why) = &equal {
        say(&format!("   {why}"));
    }
    Ok(Outcome {
        what: one.clone(),
        bytes,
        seconds,
        attempts: document["attempts"].as_u64().unwrap_or(0),
        told_twice: document["bytes_fetched"].as_u64().unwrap_or(0).saturating_sub(bytes),
        received,
        is_equal: equal.is_ok(),
    })
}
