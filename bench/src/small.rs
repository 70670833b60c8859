//! Many small objects: as many transfers of a service of the bench's own, from the first submission to the last commit.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::service::{self, Service};

/// Transfers in one request: a client with so many sends arrays.
const SUBMITTED_TOGETHER: usize = 500;
/// How often it is asked how many are complete.
const LOOK: Duration = Duration::from_millis(100);
/// All of them are given so long.
const PATIENCE: Duration = Duration::from_secs(600);
/// Transfers on a page of the list.
const PAGE: usize = 10_000;

/// What is moved.
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

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmallTold {
    /// From the first submission until the last one was complete.
    pub seconds: f64,
    /// CPU seconds of the service and its executor.
    pub cpu_seconds: f64,
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
        let (began, before) = (Instant::now(), service.cpu_seconds()?);
        self.submit(&service, &sources, &targets)?;
        // One more is complete: the one before.
        while counted(&service, "completed")? < self.objects + 1 {
            let failed = counted(&service, "failed")?;
            if failed > 0 || began.elapsed() > PATIENCE {
                let completed = counted(&service, "completed")? - 1;
                let why = format!("{completed} of {} are complete, {failed} failed", self.objects);
                return Err(io::Error::other(why));
            }
            std::thread::sleep(LOOK);
        }
        let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), service.cpu_seconds()? - before);
        Ok(SmallTold { seconds, cpu_seconds, stages: stages(&service, &warm)? })
    }

    fn submit(&self, service: &Service, sources: &Path, targets: &Path) -> io::Result<()> {
        let url = |folder: &Path, index: usize| format!("file://{}/{index}", folder.display());
        let transfer = |index| json!({"source_url": url(sources, index), "destination_url": url(targets, index)});
        let indexes: Vec<usize> = (0..self.objects).collect();
        for together in indexes.chunks(SUBMITTED_TOGETHER) {
            let answer = service.submit(&together.iter().map(|index| transfer(*index)).collect())?;
            let refused = answer.as_array().into_iter().flatten().find(|one| one["status"] != 201);
            if let Some(refused) = refused {
                return Err(io::Error::other(format!("the service refused: {refused}")));
            }
        }
        Ok(())
    }
}

/// Durable files of bytes that do not compress.
fn make(folder: &Path, objects: usize, bytes: usize) -> io::Result<()> {
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

/// Transfers that are completed, or failed, so far.
fn counted(service: &Service, what: &str) -> io::Result<usize> {
    let metrics = service.text("/metrics")?;
    let name = format!("staccato_transfers_{what}_total ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
    line.and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("/metrics does not tell {}", name.trim())))
}

/// Averages over all documents behind this one.
fn stages(service: &Service, after: &str) -> io::Result<BTreeMap<String, f64>> {
    let (mut sums, mut count, mut marker) = (BTreeMap::<String, f64>::new(), 0.0, after.to_owned());
    loop {
        let page = service.get(&format!("/v1/transfers?limit={PAGE}&marker={marker}"))?;
        let page = page.as_array().cloned().unwrap_or_default();
        let Some(last) = page.last() else { break };
        service::id(last).clone_into(&mut marker);
        for document in &page {
            count += 1.0;
            let times = document["stage_times"].as_object().into_iter().flatten();
            for (stage, micros) in times {
                *sums.entry(stage.clone()).or_default() += micros.as_f64().unwrap_or(0.0) / 1e6;
            }
            for (stage, from, to) in [("scheduled", "created_at", "started_at"), ("run", "started_at", "finished_at")] {
                *sums.entry(stage.to_owned()).or_default() += between(&document[from], &document[to]);
            }
        }
    }
    Ok(sums.into_iter().map(|(stage, sum)| (stage, sum / f64::max(count, 1.0))).collect())
}

/// Seconds between two times of a document.
fn between(from: &Value, to: &Value) -> f64 {
    let parse = |time: &Value| humantime::parse_rfc3339(time.as_str()?).ok();
    match (parse(from), parse(to)) {
        (Some(from), Some(to)) => to.duration_since(from).map_or(0.0, |passed| passed.as_secs_f64()),
        _ => 0.0,
    }
}
