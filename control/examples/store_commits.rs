//! Commits numbered records to a store and says so: `store_commits DIR COUNT [CLIENTS] [SEGMENT_BYTES] [EXPORT_BYTES]`.
//!
//! Writes `ack K` and a newline to standard output, in one write, after the commit of record K was acknowledged, and
//! `refused K` when it was not. Goes on behind the last record that is there. Made to be traced and killed by
//! `tests/store_durability.rs`, and to see how many commits a disk takes.

use std::{
    env,
    error::Error,
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use staccato_control::store::{Commit, SledOptions, SledStore, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let dir: PathBuf = arguments.next().ok_or("name a folder")?.into();
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (count, clients) = (number(100)?, number(1)?);
    let defaults = SledOptions::default();
    let options = SledOptions {
        segment_bytes: number(defaults.segment_bytes)?,
        export_after_bytes: number(defaults.export_after_bytes)?,
        ..defaults
    };
    let begun = Instant::now();
    let store = Arc::new(SledStore::open_with(&dir, options)?);
    let opened = begun.elapsed();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    runtime.block_on(async {
        let last = store.range(b"k", b"l", 1, true).await?.pop();
        let first =
            last.map_or(Ok(0), |(key, _)| String::from_utf8_lossy(&key[1..]).parse::<u64>().map(|last| last + 1))?;
        let next = Arc::new(AtomicU64::new(first));
        let tasks: Vec<_> =
            (0..clients).map(|_| tokio::spawn(commit(store.clone(), next.clone(), first + count))).collect();
        for task in tasks {
            task.await?;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let seconds = (begun.elapsed() - opened).as_secs_f64();
    writeln!(stderr(), "opened in {opened:.2?}, {:.0} commits per second", count as f64 / seconds)?;
    Ok(())
}

async fn commit(store: Arc<SledStore>, next: Arc<AtomicU64>, end: u64) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return;
        }
        let key = format!("k{number:012}");
        let value = format!("{number}").repeat(100);
        let word = match store.commit(Commit::new().require_absent(key.clone()).put(key, value)).await {
            Ok(_) => "ack",
            Err(_) => "refused",
        };
        let line = format!("{word} {number}\n");
        stdout().lock().write_all(line.as_bytes()).expect("somebody listens");
    }
}
