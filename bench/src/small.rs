//! Many small objects: as many transfers of a service of the bench's own, from the first submission to the last commit.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api::{self, Api},
    service::{self, Service},
};

/// Transfers in one request: a client with so many sends arrays.
const SUBMITTED_TOGETHER: usize = 500;
/// How often it is asked how many are complete.
const LOOK: Duration = Duration::from_millis(100);
/// All of them are given so long.
const PATIENCE: Duration = Duration::from_secs(600);
/// Transfers on a page of the list.
const PAGE: usize = 10_000;

/// What is moved, on one host.
#[derive(Clone, Debug, Args)]
pub struct Small {
    /// An empty folder on the disk to measure
    folder: PathBuf,
    /// Number of objects
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Bytes of each
    #[arg(long, default_value_t = 64 << 10)]
    bytes: usize,
    /// Transfers that may run at a time
    #[arg(long, default_value_t = 64)]
    slots: usize,
}

/// What is moved from one host to another, by a service that is there.
#[derive(Clone, Debug, Args)]
pub struct SmallBetween {
    /// URL of the service's REST interface
    api: String,
    /// URL of the folder with the objects, which [`make`] has made
    from: String,
    /// URL of the folder where they shall be
    to: String,
    /// Number of objects
    #[arg(long)]
    objects: usize,
    /// How they cross
    #[arg(long)]
    transport: String,
    /// Seconds that all of them are given
    #[arg(long)]
    patience: f64,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmallTold {
    /// From the first submission until the last one was complete.
    pub seconds: f64,
    /// CPU seconds of the service and its executor, where they are whose runs this.
    pub cpu_seconds: Option<f64>,
    /// Seconds of one transfer in each stage, on average; `scheduled` is the time until an executor had it.
    pub stages: BTreeMap<String, f64>,
}

impl Small {
    /// Moves them.
    pub fn run(&self) -> io::Result<SmallTold> {
        let (sources, targets) = (self.folder.join("sources"), self.folder.join("targets"));
        fs::create_dir(&targets)?;
        make(&sources, self.objects, self.bytes)?;
        let arguments =
            ["--root".into(), format!("{}:rw", self.folder.display()), "--slots".into(), self.slots.to_string()];
        let service = Service::start(&service::binary()?, &self.folder.join("data"), &arguments)?;
        let warm = service.warm_up()?;
        let before = service.cpu_seconds()?;
        let url = |folder: &Path| format!("file://{}", folder.display());
        let batch = Batch {
            api: service.api(),
            from: &url(&sources),
            to: &url(&targets),
            objects: self.objects,
            transport: None,
            patience: PATIENCE,
        };
        let seconds = batch.run()?;
        let cpu_seconds = Some(service.cpu_seconds()? - before);
        Ok(SmallTold { seconds, cpu_seconds, stages: stages(service.api(), &warm)? })
    }
}

impl SmallBetween {
    /// Moves them.
    pub fn run(&self) -> io::Result<SmallTold> {
        let api = Api::new(&self.api);
        let host = |url: &str| url.split('/').nth(2).unwrap_or_default().to_owned();
        // The link has been used: what is measured are objects, not the first connection.
        let warm = api.submit(&json!({
            "source_url": format!("zero://{}/1M?seed=1", host(&self.from)),
            "destination_url": format!("null://{}/", host(&self.to)),
            "transport": self.transport,
        }))?;
        api.complete(&warm)?;
        let batch = Batch {
            api: &api,
            from: &self.from,
            to: &self.to,
            objects: self.objects,
            transport: Some(&self.transport),
            patience: Duration::try_from_secs_f64(self.patience).map_err(io::Error::other)?,
        };
        let seconds = batch.run()?;
        Ok(SmallTold { seconds, cpu_seconds: None, stages: stages(&api, api::id(&warm))? })
    }
}

/// Objects that are moved together.
struct Batch<'a> {
    api: &'a Api,
    /// URLs of folders.
    from: &'a str,
    to: &'a str,
    objects: usize,
    transport: Option<&'a str>,
    patience: Duration,
}

impl Batch<'_> {
    /// Submits them, and waits until all are complete; how long that took.
    fn run(&self) -> io::Result<f64> {
        let counted = |what: &str| self.api.metric(&format!("staccato_transfers_{what}_total"));
        let (completed, failed) = (counted("completed")?, counted("failed")?);
        let began = Instant::now();
        self.submit()?;
        loop {
            let moved = counted("completed")? - completed;
            if moved >= self.objects {
                return Ok(began.elapsed().as_secs_f64());
            }
            let failed = counted("failed")? - failed;
            if failed > 0 || began.elapsed() > self.patience {
                return Err(io::Error::other(format!("{moved} of {} are complete, {failed} failed", self.objects)));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn submit(&self) -> io::Result<()> {
        let transfer = |index: &usize| {
            let mut transfer = json!({
                "source_url": format!("{}/{index}", self.from),
                "destination_url": format!("{}/{index}", self.to),
            });
            if let Some(transport) = self.transport {
                transfer["transport"] = transport.into();
            }
            transfer
        };
        let indexes: Vec<usize> = (0..self.objects).collect();
        for together in indexes.chunks(SUBMITTED_TOGETHER) {
            let answer = self.api.submit(&together.iter().map(transfer).collect())?;
            let refused = answer.as_array().into_iter().flatten().find(|one| one["status"] != 201);
            if let Some(refused) = refused {
                return Err(io::Error::other(format!("the service refused: {refused}")));
            }
        }
        Ok(())
    }
}

/// Durable files of bytes that do not compress, named by their numbers.
pub fn make(folder: &Path, objects: usize, bytes: usize) -> io::Result<()> {
    fs::create_dir(folder)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut content = vec![0; bytes];
    for index in 0..objects {
        random.fill(&mut content);
        fs::write(folder.join(index.to_string()), &content)?;
    }
    rustix::fs::sync();
    Ok(())
}

/// Averages over all documents behind this one.
fn stages(api: &Api, after: &str) -> io::Result<BTreeMap<String, f64>> {
    let (mut sums, mut count, mut marker) = (BTreeMap::<String, f64>::new(), 0.0, after.to_owned());
    loop {
        let page = api.get(&format!("/v1/transfers?limit={PAGE}&marker={marker}"))?;
        let page = page.as_array().cloned().unwrap_or_default();
        let Some(last) = page.last() else { break };
        api::id(last).clone_into(&mut marker);
        for document in &page {
            count += 1.0;
            let spans = [("scheduled", "created_at", "started_at"), ("run", "started_at", "finished_at")];
            let spans = spans.into_iter().map(|(stage, from, to)| {
                (stage.to_owned(), api::between(&document[from], &document[to]).unwrap_or(0.0))
            });
            for (stage, seconds) in api::stage_seconds(document).chain(spans) {
                *sums.entry(stage).or_default() += seconds;
            }
        }
    }
    Ok(sums.into_iter().map(|(stage, sum)| (stage, sum / f64::max(count, 1.0))).collect())
}
