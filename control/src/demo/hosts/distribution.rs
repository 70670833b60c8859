//! From four hosts on: one image for all of them at once. They feed one another, while one of them and the service die.
//!
//! All hosts share one machine here. So each is limited to a rate that the machine can give to all of them together, which
//! stands for its network: none can have the image before its size at that rate. That is the bound.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    HostsOptions, by_hand,
    deployment::Deployment,
    outcome::{HostOutcome, Outcome, figures, hosts_table, read_from_source, seed_of, verdict},
};
use crate::demo::{
    image::{self, Between},
    progress::Course,
    say,
    server::{self, FileServer},
    text,
};

/// How often the source may be read.
const SOURCE_BUDGET: f64 = 2.0;
/// How long the bound is at least: who dies is in the middle of something.
const BOUND_SECONDS_MIN: u64 = 6;
/// How long the service is away.
const AWAY: Duration = Duration::from_secs(2);
/// What has not moved for so long does not move any more.
const STALLED: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Who dies, and is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// The executor of a host that reads the source.
    Seed,
    Service,
}

impl Death {
    /// Whether it is time: so much of what all hosts are to have is durable.
    fn is_due(self, progress: u64, bytes_all: u64) -> bool {
        match self {
            Self::Seed => progress >= bytes_all / 3,
            Self::Service => progress >= bytes_all / 2,
        }
    }
}

/// An image, and the hosts that are to have it.
struct Distribution<'a> {
    deployment: &'a mut Deployment,
    hosts: usize,
    image: PathBuf,
    bytes: u64,
    source: FileServer,
    /// What each host may read in a second.
    rate: u64,
}

/// Distributes an image twice: undisturbed, and with deaths on the way.
pub(super) async fn run(deployment: &mut Deployment, options: &HostsOptions) -> Result<(), String> {
    let &HostsOptions { hosts, mib, rate_mib, keep, .. } = options;
    let (image, bytes) = (deployment.image(), mib << 20);
    image::make(&image, bytes, Between::Nothing).map_err(text("make the image"))?;
    let listener = deployment.listen().map_err(text("listen on the service's host"))?;
    let source = server::serve(image.clone(), listener).map_err(text("serve the image"))?;
    say(&format!("2. Made an image of {mib} MiB without holes, and serve it at {}", source.url));

    let rate_mib = rate_mib.min(mib / BOUND_SECONDS_MIN).max(1);
    let bound_seconds = mib as f64 / rate_mib as f64;
    let mut distribution = Distribution { deployment, hosts, image, bytes, source, rate: rate_mib << 20 };
    say(&format!(
        "3. To {hosts} hosts at once, each limited to {rate_mib} MiB/s: none has it before {bound_seconds:.1} s"
    ));
    let undisturbed = distribution.carry_out("nobody dies", "image.raw", &[]).await?;
    say("4. Once more; a host that reads the source gets SIGKILL on the way, and then the service");
    let disturbed = distribution.carry_out("two die", "again.raw", &[Death::Seed, Death::Service]).await?;

    say("\nEvery byte of each copy was compared with the image (as cmp does). While two died:\n");
    hosts_table(&disturbed).iter().for_each(|line| say(&format!("  {line}")));
    let all = [undisturbed, disturbed];
    say("");
    figures(&all, bytes, bound_seconds).iter().for_each(|line| say(&format!("  {line}")));
    say(
        "\nMakespan: from the request until the last host has its copy. Bound: the image's size at the limit of a host, which",
    );
    say(
        "stands for its network, as all share this machine. Source read: what its web server has sent, over the size; of single",
    );
    say("hosts the ledger tells, without what a killed executor had not told yet.");
    let verdict = verdict(&all, bytes, SOURCE_BUDGET)?;
    if keep {
        say(&format!("\n{verdict}\n\nThe hosts are there until you press Ctrl-C. Now by hand:\n"));
        by_hand::distribute(distribution.deployment, &distribution.source.url).iter().for_each(|line| say(line));
        return std::future::pending().await;
    }
    say(&format!("The same by hand, line by line: \"One image, many hosts\" in README.md.\n\n{verdict}"));
    Ok(())
}

impl Distribution<'_> {
    /// Sends the image to a file of this name on every host.
    async fn carry_out(&mut self, what: &'static str, name: &str, deaths: &[Death]) -> Result<Outcome, String> {
        let body = json!({
            "source_url": self.source.url,
            "destination_url": self.deployment.template(name),
            "hosts": {"percent": 100},
            "rate_limit": self.rate,
            "source_budget": SOURCE_BUDGET,
        });
        let sent_before = self.source.bytes_sent();
        let began = Instant::now();
        let client = self.deployment.client();
        let created = client.post("/v1/distributions", &body).await.map_err(|error| error.to_string())?.body;
        let id = created["id"].as_str().ok_or("the service gave the distribution no id")?;
        let path = format!("/v1/distributions/{id}");
        let followed = self.follow(&path, deaths).await;
        let makespan_seconds = began.elapsed().as_secs_f64();
        let (document, killed) = followed.map_err(|why| format!("{why}\n{}", self.deployment.logs()))?;
        let source_bytes = self.source.bytes_sent() - sent_before;
        say(&format!("   Complete after {makespan_seconds:.1} s"));
        let mut hosts = Vec::new();
        for member in self.members(&path).await? {
            hosts.push(self.compare(&member, name, killed.as_deref())?);
        }
        if hosts.len() != self.hosts {
            return Err(format!("{} hosts have a copy, not {}", hosts.len(), self.hosts));
        }
        let peer_bytes = document["bytes_between_peers"].as_u64().unwrap_or(0);
        Ok(Outcome { what, makespan_seconds, source_bytes, peer_bytes, hosts })
    }

    /// Shows how far it is until it is complete; returns its document then, and whose executor was killed.
    async fn follow(&mut self, path: &str, deaths: &[Death]) -> Result<(Value, Option<String>), String> {
        let bytes_all = self.bytes * self.hosts as u64;
        let (mut course, mut deaths, mut killed) = (Course::of(bytes_all)?, deaths.iter().copied().peekable(), None);
        let (mut progress_before, mut moved) = (0, Instant::now());
        loop {
            let document = self.get(path).await?;
            let progress = document["progress"].as_u64().unwrap_or(0);
            let done = document["hosts"]["done"].as_u64().unwrap_or(0);
            course.show(progress, &format!("{done} of {} hosts done", self.hosts));
            match document["state"].as_str().unwrap_or_default() {
                "STATE_COMPLETE" if deaths.peek().is_some() => {
                    return Err("it was over before all could be killed; try a larger image (--size)".into());
                }
                "STATE_COMPLETE" => {
                    course.finish();
                    return Ok((document, killed));
                }
                "STATE_ERROR" | "STATE_CANCELED" => return Err(format!("the distribution failed: {document:#}")),
                _ => (),
            }
            if progress != progress_before {
                (progress_before, moved) = (progress, Instant::now());
            } else if moved.elapsed() > STALLED {
                return Err(format!("nothing has moved for {} s: {document:#}", STALLED.as_secs()));
            }
            match deaths.next_if(|death| death.is_due(progress, bytes_all)) {
                Some(Death::Seed) => killed = Some(self.kill_seed(path, &course).await?),
                Some(Death::Service) => self.kill_service(&course).await?,
                None => (),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn kill_seed(&mut self, path: &str, course: &Course) -> Result<String, String> {
        let members = self.members(path).await?;
        let seed = seed_of(&members).ok_or("no host that runs has read the source")?;
        let host = seed["host"].as_str().unwrap_or_default().to_owned();
        let read = read_from_source(seed) as f64 / 1e6;
        let (killed, started) = self.deployment.kill_and_start(&host)?;
        course.say(&format!(
            "   Killed the executor of {host} (pid {killed}), which had read {read:.1} MB of the source; started it again (pid {started})"
        ));
        Ok(host)
    }

    async fn kill_service(&mut self, course: &Course) -> Result<(), String> {
        let stored_before = self.deployment.stored();
        let killed = self.deployment.kill_service()?;
        course.say(&format!(
            "   Killed the service (pid {killed}): for {} s nobody is there to be asked",
            AWAY.as_secs()
        ));
        tokio::time::sleep(AWAY).await;
        let written = self.deployment.stored().saturating_sub(stored_before) as f64 / 1e6;
        let started = self.deployment.start_service().await?;
        course.say(&format!("   Started it again (pid {started}); meanwhile the hosts have written {written:.0} MB"));
        Ok(())
    }

    /// What became of a member. Its copy goes: another one is as big.
    fn compare(&self, member: &Value, name: &str, killed: Option<&str>) -> Result<HostOutcome, String> {
        let host = member["host"].as_str().unwrap_or_default().to_owned();
        let copy = self.deployment.path(&host, name);
        let equal = image::compare(&self.image, &copy);
        if let Err(why) = &equal {
            say(&format!("   {why}"));
        }
        fs::remove_file(&copy).map_err(text("remove a copy"))?;
        Ok(HostOutcome {
            was_killed: killed == Some(&host),
            host,
            attempts: member["attempts"].as_u64().unwrap_or(0),
            source_bytes: read_from_source(member),
            peer_bytes: member["bytes_from_peers"].as_u64().unwrap_or(0),
            is_equal: equal.is_ok(),
        })
    }

    async fn members(&self, path: &str) -> Result<Vec<Value>, String> {
        let members = self.get(&format!("{path}/members")).await?;
        Ok(members.as_array().cloned().unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        Ok(self.deployment.client().get(path).await.map_err(|error| error.to_string())?.body)
    }
}
