//! Many small objects.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Workplace, service::hosts_of_own};
use crate::{
    contest::{Case, Contestant, Told},
    contestants::{
        Both, rsync,
        service::{Copies, ManyCopied, ManyTransferred, TRANSPORTS},
    },
    link::Testbed,
    measure::{Ended, Meter},
    record::Kind,
    service,
    small::{self, SmallTold},
    worker::Program,
};

/// The name of this case in results.
pub const NAME: &str = "small";

/// So many objects of so many bytes as so many transfers, from the first submission to the last commit. Each sample has
/// a service, and files, of its own; making them is not counted. They stay until the case has ended: ext4 without a
/// journal passes over inodes that were deleted within the last minutes, one by one, whenever a file is made, so that
/// removing one sample's files would slow the next.
pub fn transfers(program: &Program, place: &Workplace, objects: usize, bytes: usize, slots: usize) -> Case {
    let (program, folder) = (program.clone(), place.path("small"));
    let small = Small { program, folder, samples: AtomicUsize::new(0), objects, bytes, slots };
    Case {
        settings: BTreeMap::from([
            ("objects".into(), objects.to_string()),
            ("size".into(), bytes.to_string()),
            ("slots".into(), slots.to_string()),
        ]),
        operations: objects as u64,
        ..Case::new(NAME, 0, vec![Box::new(small)])
    }
}

/// What is moved between hosts.
#[derive(Clone, Debug)]
pub struct Objects {
    /// How many.
    pub count: usize,
    /// Bytes of each.
    pub bytes: usize,
    /// Transfers that may run at a time.
    pub slots: usize,
    /// What tells the link from others.
    pub settings: BTreeMap<String, String>,
    /// Seconds after which a contestant is given up.
    pub seconds_max: f64,
}

/// The same from one host to another: as transfers of a service of the bench's own, and by rsync, whose client copies all
/// of them in one process from a daemon that has them. Everybody reads them from the disk; who leaves its copies in the
/// page cache syncs the file system once, when all are written. Copies stay until the case has ended, as above. The
/// case comes with what must outlive it.
pub fn between_hosts(
    program: &Program,
    disk: &Path,
    bed: &Rc<Testbed>,
    objects: &Objects,
) -> io::Result<(Workplace, Case)> {
    let Objects { count, bytes, slots, seconds_max, .. } = *objects;
    let place = Workplace::new(disk)?;
    let (hosts, files) = hosts_of_own(bed, &place, slots)?;
    let source = files.join("sources");
    small::make(&source, count, bytes)?;
    let copies = Copies::new(&source, count, (count * bytes) as u64, &files.join("targets"));
    let through = |transport: &str| -> Box<dyn Contestant> {
        Box::new(ManyTransferred::new(program, bed.at_owner(), &hosts, transport, &copies, seconds_max))
    };
    let mut contestants: Vec<_> = TRANSPORTS.into_iter().map(through).collect();
    let at = bed.port(1);
    let server = rsync::daemon(&place.path("fleet"), &source, at)?;
    let copy = format!("rsync --recursive --whole-file rsync://{at}/files/ \"$0\" && sync --file-system \"$0\"");
    let client = ["sh", "-c", &copy, "{to}"].map(str::to_owned).into();
    let ends = bed.ends(at, server, client, seconds_max);
    let rsync = Both::new(program, "rsync daemon", Kind::Rival, &["rsync"], ends).durable();
    contestants.push(Box::new(ManyCopied::new(rsync, &copies)));
    let mut settings = objects.settings.clone();
    for (name, value) in [("objects", count), ("size", bytes), ("slots", slots)] {
        settings.insert(name.into(), value.to_string());
    }
    settings.insert("transport".into(), super::service::THROUGH.into());
    let case = Case {
        settings,
        operations: count as u64,
        cold: (0..count).map(|index| source.join(index.to_string())).collect(),
        meters: Meter::of_disk(&files),
        own_work: Some(hosts.own_work(bed)),
        ..Case::new(NAME, 0, contestants)
    };
    Ok((place, case))
}

struct Small {
    program: Program,
    folder: PathBuf,
    /// Samples that were begun.
    samples: AtomicUsize,
    objects: usize,
    bytes: usize,
    slots: usize,
}

impl Contestant for Small {
    fn name(&self) -> String {
        "staccato service".into()
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn absent(&self) -> Option<String> {
        service::binary().err().map(|error| error.to_string())
    }

    fn command(&self, _target: &Path) -> Command {
        let folder = self.folder.join(self.samples.fetch_add(1, Ordering::Relaxed).to_string());
        // Where that fails, the command says so.
        let _ = std::fs::create_dir_all(&folder);
        let mut command = self.program.command("small");
        command.arg(&folder).arg(format!("--objects={}", self.objects));
        command.arg(format!("--bytes={}", self.bytes)).arg(format!("--slots={}", self.slots));
        command
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: SmallTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        Ok(Told { seconds: Some(told.seconds), cpu_seconds: told.cpu_seconds, stages: told.stages, ..Told::default() })
    }
}
