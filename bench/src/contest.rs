//! Runs a case: contestants in interleaved pairs, each from the same cold start, each until its bytes are durable.
//!
//! One contestant of a case, the first, is the *reference* (ours, where we take part). Everybody else is measured in
//! pairs with it: right before it in one round, right after it in the next. Disks and shared machines drift; between
//! neighbours they drift least, and so ratios are taken within pairs ([`crate::statistics::ratio`]).

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    slice,
    time::{Duration, Instant},
};

use rustix::fs::{Advice, fadvise};

use crate::{
    matrix::in_turns,
    measure::{self, Ended, Load, MemoryState, Meter, Recorder},
    record::{Kind, MachineLoad, Sample, Series},
};

/// Pairs that a ratio is the median of, unless told otherwise.
pub const PAIRS_DEFAULT: usize = 7;
/// Fewer pairs than these are no measurement.
pub const PAIRS_MIN: usize = 3;

/// Somebody who can do the work of a case, as a process.
pub trait Contestant {
    /// Name in tables; unique within its case.
    fn name(&self) -> String;

    /// What it is there for.
    fn kind(&self) -> Kind;

    /// Why it cannot take part, if so.
    fn absent(&self) -> Option<String> {
        None
    }

    /// The command that writes the object to `target`, which does not exist.
    fn command(&self, target: &Path) -> Command;

    /// Whether the bytes are durable when its process has ended; else the bench syncs them, on its time.
    fn is_durable(&self) -> bool {
        false
    }

    /// Whether it writes the target at all: a limit may leave that out.
    fn writes_target(&self) -> bool {
        true
    }

    /// Whether the work is done by processes that were there before: then its CPU seconds are those that it tells, and
    /// nothing is known of its memory.
    fn works_elsewhere(&self) -> bool {
        false
    }

    /// Whether the others go on without it when it fails: so it is with all that are not ours.
    fn may_fail(&self) -> bool {
        self.kind() != Kind::Ours
    }

    /// What its process said: the time it took where it knows better than a clock around it, and its stages.
    fn interpret(&self, _ended: &Ended) -> io::Result<Told> {
        Ok(Told::default())
    }
}

/// What a contestant tells of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Wall time; the bench's own clock counts without.
    pub seconds: Option<f64>,
    /// CPU seconds of the work alone; those of the whole process count without.
    pub cpu_seconds: Option<f64>,
    /// CPU seconds of each of its processes, where there are several.
    pub cpu_seconds_by_end: BTreeMap<String, f64>,
    /// Seconds in each stage of its pipeline.
    pub stages: BTreeMap<String, f64>,
    /// Most memory of a process that works elsewhere.
    pub rss_bytes_max: Option<u64>,
    /// How many copies it made, where it is not one.
    pub copies: Option<u64>,
    /// What else the case asks for.
    pub figures: BTreeMap<String, f64>,
}

/// What is measured, and what makes it fair.
pub struct Case {
    /// Its name in results.
    pub name: String,
    /// What tells it from others of that name.
    pub settings: BTreeMap<String, String>,
    /// Length of the object; 0 where the case is not about one.
    pub bytes: u64,
    /// Operations of a sample; 0 where the case is not about operations.
    pub operations: u64,
    /// Where the object is written to, or nothing for work that leaves no file.
    pub target: Option<PathBuf>,
    /// Whether the target of a sample stays there for the next one, which writes over it.
    pub keep_target: bool,
    /// A file whose holes the target of ours must have again: it may not take more space.
    pub sparse_like: Option<PathBuf>,
    /// Files that must not be in the page cache when a sample begins.
    pub cold: Vec<PathBuf>,
    /// Files that must be in it, whole.
    pub warm: Vec<PathBuf>,
    /// In which state memory is before a sample.
    pub memory: MemoryState,
    /// What is recorded meanwhile.
    pub meters: Vec<Meter>,
    /// CPU seconds so far of what the bench itself does between contestants: not theirs, and nobody else's.
    pub own_work: Option<Rc<dyn Fn() -> f64>>,
    /// Whether the work is done on this machine: what else runs elsewhere is not known.
    pub is_here: bool,
    /// The reference first: ours, or in a case about the machine alone our own probe of it.
    pub contestants: Vec<Box<dyn Contestant>>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Pairs of each contestant with the reference.
    pub pairs: usize,
    /// A round that would end later than this is not begun, but for the first [`PAIRS_MIN`].
    pub time_max: Duration,
    /// Whether system calls are counted, in a further run of each contestant.
    pub count_system_calls: bool,
}

/// Measures cases that are to be held against each other: a round of each in turns, forwards in one round and backwards
/// in the next, so that a machine that drifts favours none of them. The series of each case.
pub fn run_all(cases: &[Case], effort: Effort, progress: &mut dyn Progress) -> io::Result<Vec<Vec<Series>>> {
    let mut all: Vec<Vec<Series>> = cases.iter().map(Case::nobody_yet).collect();
    let began = Instant::now();
    for round in 0..effort.pairs {
        let (elapsed, rounds) = (began.elapsed(), u32::try_from(round).unwrap_or(u32::MAX));
        let with_this_one = elapsed + elapsed.checked_div(rounds).unwrap_or_default();
        if round >= PAIRS_MIN && with_this_one > effort.time_max {
            break;
        }
        for index in in_turns(round, cases.len()) {
            cases[index].round(round, &mut all[index], progress)?;
        }
    }
    if effort.count_system_calls {
        for (case, series) in cases.iter().zip(&mut all) {
            case.count_system_calls(series)?;
        }
    }
    Ok(all)
}

/// What is told while a case runs.
pub trait Progress {
    /// A sample was taken.
    fn taken(&mut self, contestant: &str, sample: &Sample);
}

impl Case {
    /// A case about an object of `bytes` with these contestants: a reference, and nothing else that matters.
    pub fn new(name: impl Into<String>, bytes: u64, contestants: Vec<Box<dyn Contestant>>) -> Self {
        let settings = if bytes > 0 { BTreeMap::from([("size".into(), bytes.to_string())]) } else { BTreeMap::new() };
        Self {
            name: name.into(),
            settings,
            bytes,
            operations: 0,
            target: None,
            keep_target: false,
            sparse_like: None,
            cold: Vec::new(),
            warm: Vec::new(),
            memory: MemoryState::AsFound,
            meters: Vec::new(),
            own_work: None,
            is_here: true,
            contestants,
        }
    }

    /// Leaves out every contestant but the reference and those whose names begin like one of these; none of no names.
    pub fn keep(&mut self, names: &[String]) {
        let mut place = 0;
        self.contestants.retain(|contestant| {
            place += 1;
            let name = contestant.name();
            place == 1 || names.is_empty() || names.iter().any(|start| name.starts_with(start.as_str()))
        });
    }

    /// Measures every contestant that is there.
    pub fn run(&self, effort: Effort, progress: &mut dyn Progress) -> io::Result<Vec<Series>> {
        Ok(run_all(slice::from_ref(self), effort, progress)?.swap_remove(0))
    }

    /// One series for each contestant, without samples.
    pub fn nobody_yet(&self) -> Vec<Series> {
        self.contestants.iter().map(|contestant| self.series(&**contestant)).collect()
    }

    /// One more sample of everybody who is there, in pairs with the reference; one more of the reference for each pair.
    /// One that [may fail](Contestant::may_fail) and does is absent from then on, with its reason; so is one that takes too
    /// long ([`io::ErrorKind::TimedOut`]), whoever it is, and nobody has a pair any more where it is the reference.
    pub fn round(&self, round: usize, series: &mut [Series], progress: &mut dyn Progress) -> io::Result<()> {
        if series.first().is_none_or(|reference| reference.absent.is_some()) {
            return Ok(());
        }
        // Who has nobody to be held against is measured all the same.
        if series[1..].iter().all(|opponent| opponent.absent.is_some()) {
            self.add_samples(&[0], round, series, progress)?;
        }
        for opponent in 1..series.len() {
            if series[opponent].absent.is_some() {
                continue;
            }
            let pair = if round.is_multiple_of(2) { [0, opponent] } else { [opponent, 0] };
            self.add_samples(&pair, round, series, progress)?;
            if series[0].absent.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One more sample of one, or of two beside one another; none of whoever turns out to be absent.
    fn add_samples(
        &self,
        indexes: &[usize],
        round: usize,
        series: &mut [Series],
        progress: &mut dyn Progress,
    ) -> io::Result<()> {
        let mut taken = Vec::new();
        for &index in indexes {
            let beside = indexes.iter().copied().find(|other| *other != index);
            let late = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
            let may_fail = index > 0 && self.contestants[index].may_fail();
            match self.sample_of(index, round, beside, progress) {
                Ok(sample) => taken.push((index, sample)),
                Err(error) if late(&error) || may_fail => {
                    let failed = if late(&error) { "" } else { "it failed: " };
                    series[index].absent = Some(format!("{failed}{error}"));
                    series[index].samples.clear();
                }
                Err(error) => return Err(error),
            }
        }
        if series[0].absent.is_none() {
            taken.into_iter().for_each(|(index, sample)| series[index].samples.push(sample));
        }
        Ok(())
    }

    fn sample_of(
        &self,
        index: usize,
        round: usize,
        beside: Option<usize>,
        progress: &mut dyn Progress,
    ) -> io::Result<Sample> {
        let contestant = &*self.contestants[index];
        let beside = beside.map(|other| self.contestants[other].name());
        let sample = Sample { round, beside, ..self.sample(contestant)? };
        progress.taken(&contestant.name(), &sample);
        Ok(sample)
    }

    fn series(&self, contestant: &dyn Contestant) -> Series {
        let mut settings = self.settings.clone();
        settings.insert("memory".into(), self.memory.to_string());
        Series {
            case: self.name.clone(),
            settings,
            contestant: contestant.name(),
            kind: contestant.kind(),
            absent: contestant.absent(),
            note: None,
            samples: Vec::new(),
        }
    }

    fn sample(&self, contestant: &dyn Contestant) -> io::Result<Sample> {
        self.prepare()?;
        let first_touch_rate = measure::first_touch_rate();
        let own_work = || self.own_work.as_ref().map_or(0.0, |own_work| own_work());
        let own_before = own_work();
        let (load, recorder) = (Load::now(), Recorder::start(self.meters.clone()));
        let began = Instant::now();
        let target = self.target.as_deref().unwrap_or(Path::new(""));
        let ended = measure::run(&mut contestant.command(target))?;
        let told = contestant.interpret(&ended)?;
        let syncing = Instant::now();
        if !contestant.is_durable() && self.target.is_some() {
            fs::File::open(target)?.sync_all()?;
        }
        let seconds = match told.seconds {
            Some(own) => own + syncing.elapsed().as_secs_f64(),
            None => began.elapsed().as_secs_f64(),
        };
        let own_seconds = ended.cpu_seconds + own_work() - own_before;
        let load = if self.is_here { load.since() } else { MachineLoad::default() };
        let machine = MachineLoad { own_seconds, first_touch_rate, ..load };
        let timelines = recorder.stop();
        self.check(contestant)?;
        let by_itself = !contestant.works_elsewhere();
        Ok(Sample {
            seconds,
            bytes: self.bytes,
            operations: self.operations,
            cpu_seconds: told.cpu_seconds.or(by_itself.then_some(ended.cpu_seconds)),
            cpu_seconds_by_end: told.cpu_seconds_by_end,
            rss_bytes_max: told.rss_bytes_max.or(by_itself.then_some(ended.rss_bytes_max)),
            copies: told.copies,
            stages: told.stages,
            figures: told.figures,
            timelines,
            machine,
            ..Sample::default()
        })
    }

    /// The same start for everybody: nothing to be written back, what must be cold is cold and what must be warm is
    /// warm.
    fn prepare(&self) -> io::Result<()> {
        if !self.keep_target {
            self.remove_target()?;
        }
        rustix::fs::sync();
        for path in &self.cold {
            fadvise(fs::File::open(path)?, 0, None, Advice::DontNeed)?;
        }
        if !self.cold.is_empty() && self.warm.is_empty() {
            // Only root may; without, advice on the files themselves has to do.
            let _ = fs::write("/proc/sys/vm/drop_caches", "3");
        }
        for path in &self.warm {
            io::copy(&mut fs::File::open(path)?, &mut io::sink())?;
        }
        self.memory.prepare(self.bytes)
    }

    fn check(&self, contestant: &dyn Contestant) -> io::Result<()> {
        let Some(target) = self.target.as_ref().filter(|_| contestant.writes_target()) else { return Ok(()) };
        let len = fs::metadata(target)?.len();
        if len != self.bytes {
            let name = contestant.name();
            return Err(io::Error::other(format!("{name} made {len} bytes where {} were wanted", self.bytes)));
        }
        if let (Some(like), Kind::Ours) = (&self.sparse_like, contestant.kind()) {
            let (takes, may) = (allocated_bytes(target)?, allocated_bytes(like)?);
            if takes > may {
                let name = contestant.name();
                return Err(io::Error::other(format!("{name} filled holes: {takes} bytes of disk, not {may}")));
            }
        }
        if self.keep_target { Ok(()) } else { self.remove_target() }
    }

    fn remove_target(&self) -> io::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        match fs::remove_file(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn count_system_calls(&self, series: &mut [Series]) -> io::Result<()> {
        for (contestant, series) in self.contestants.iter().zip(series) {
            if series.samples.is_empty() {
                continue;
            }
            self.prepare()?;
            let target = self.target.as_deref().unwrap_or(Path::new(""));
            let calls = measure::count_system_calls(&contestant.command(target));
            self.remove_target()?;
            series.samples.iter_mut().for_each(|sample| sample.system_calls = calls);
        }
        Ok(())
    }
}

/// Bytes that a file takes on its disk.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    // In units of 512 bytes, whatever the disk's own are (stat(2)).
    Ok(fs::metadata(path)?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes so many bytes of zeros.
    struct Zeros(&'static str, u64);

    impl Contestant for Zeros {
        fn name(&self) -> String {
            self.0.into()
        }

        fn kind(&self) -> Kind {
            Kind::Ours
        }

        fn absent(&self) -> Option<String> {
            (self.1 == 0).then(|| "not installed".into())
        }

        fn command(&self, target: &Path) -> Command {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("head -c {} /dev/zero >'{}'", self.1, target.display())]);
            command
        }
    }

    struct Silent;

    impl Progress for Silent {
        fn taken(&mut self, _: &str, _: &Sample) {}
    }

    fn run(contestants: Vec<Box<dyn Contestant>>) -> io::Result<Vec<Series>> {
        let folder = tempfile::tempdir().unwrap();
        let target = Some(folder.path().join("target"));
        let case = Case { target, ..Case::new("zeros", 1000, contestants) };
        case.run(Effort { pairs: 2, time_max: Duration::MAX, count_system_calls: false }, &mut Silent)
    }

    #[test]
    fn everybody_is_paired_with_the_reference_in_alternating_order() {
        let series =
            run(vec![Box::new(Zeros("ours", 1000)), Box::new(Zeros("a", 1000)), Box::new(Zeros("gone", 0))]).unwrap();
        assert_eq!(series[0].samples.len(), 2);
        assert_eq!(series[1].samples.len(), 2);
        assert_eq!((series[2].samples.len(), series[2].absent.as_deref()), (0, Some("not installed")));
        assert!(series[0].samples.iter().all(|sample| sample.beside.as_deref() == Some("a")));
        assert_eq!(crate::statistics::ratio(&series[0], &series[1]).map(|ratio| ratio.count), Some(2));
        let sample = &series[1].samples[0];
        assert!(sample.seconds > 0.0 && sample.rss_bytes_max.is_some_and(|bytes| bytes > 0), "{sample:?}");
    }

    #[test]
    fn who_is_alone_because_nobody_else_is_installed_is_measured() {
        let series = run(vec![Box::new(Zeros("ours", 1000)), Box::new(Zeros("gone", 0))]).unwrap();
        assert_eq!((series[0].samples.len(), series[1].samples.len()), (2, 0));
    }

    #[test]
    fn filled_holes_are_found_out() {
        let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let like = folder.path().join("like");
        fs::File::create(&like).unwrap().set_len(1 << 20).unwrap();
        let case = Case {
            target: Some(folder.path().join("target")),
            sparse_like: Some(like),
            ..Case::new("sparse", 1 << 20, vec![Box::new(Zeros("ours", 1 << 20))])
        };
        let effort = Effort { pairs: 1, time_max: Duration::MAX, count_system_calls: false };
        let error = case.run(effort, &mut Silent).unwrap_err();
        assert!(error.to_string().contains("filled holes"), "{error}");
    }

    /// A rival that does a half of it.
    struct Lazy;

    impl Contestant for Lazy {
        fn name(&self) -> String {
            "lazy".into()
        }

        fn kind(&self) -> Kind {
            Kind::Rival
        }

        fn command(&self, target: &Path) -> Command {
            Zeros("", 500).command(target)
        }
    }

    #[test]
    fn a_rival_that_fails_is_absent_with_its_reason_and_the_others_go_on() {
        let series = run(vec![Box::new(Zeros("ours", 1000)), Box::new(Lazy), Box::new(Zeros("other", 1000))]).unwrap();
        assert!(series[1].samples.is_empty());
        assert!(series[1].absent.as_ref().is_some_and(|why| why.contains("made 500 bytes")), "{:?}", series[1]);
        assert_eq!(series[2].samples.len(), 2);
    }

    /// Whoever it is that takes too long.
    struct Late;

    impl Contestant for Late {
        fn name(&self) -> String {
            "late".into()
        }

        fn kind(&self) -> Kind {
            Kind::Ours
        }

        fn command(&self, target: &Path) -> Command {
            Zeros("", 1000).command(target)
        }

        fn interpret(&self, _: &Ended) -> io::Result<Told> {
            Err(io::Error::new(io::ErrorKind::TimedOut, "it takes longer than 1 s"))
        }
    }

    #[test]
    fn who_takes_too_long_is_absent_also_as_the_reference() {
        let absent = |series: &Series| series.absent.clone();
        let series = run(vec![Box::new(Zeros("ours", 1000)), Box::new(Late)]).unwrap();
        assert_eq!((absent(&series[0]), absent(&series[1])), (None, Some("it takes longer than 1 s".into())));
        assert_eq!(absent(&run(vec![Box::new(Late)]).unwrap()[0]), Some("it takes longer than 1 s".into()));
        let series = run(vec![Box::new(Late), Box::new(Zeros("other", 1000))]).unwrap();
        assert_eq!((absent(&series[0]), absent(&series[1])), (Some("it takes longer than 1 s".into()), None));
    }

    #[test]
    fn cases_of_a_sweep_take_turns_forwards_and_backwards() {
        struct Order(Vec<String>);
        impl Progress for Order {
            fn taken(&mut self, contestant: &str, _: &Sample) {
                self.0.push(contestant.to_owned());
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let case = |name| {
            let target = Some(folder.path().join("target"));
            Case { target, ..Case::new("zeros", 10, vec![Box::new(Zeros(name, 10)) as Box<dyn Contestant>]) }
        };
        let effort = Effort { pairs: 2, time_max: Duration::MAX, count_system_calls: false };
        let mut order = Order(Vec::new());
        let series = run_all(&[case("a"), case("b")], effort, &mut order).unwrap();
        assert_eq!(order.0, ["a", "b", "b", "a"]);
        let rounds: Vec<usize> = series[1][0].samples.iter().map(|sample| sample.round).collect();
        assert_eq!(rounds, [0, 1]);
    }

    #[test]
    fn a_round_that_would_end_too_late_is_not_begun() {
        let case = Case::new("nothing", 0, vec![Box::new(Sleeper)]);
        let effort = |millis| Effort { pairs: 9, time_max: Duration::from_millis(millis), count_system_calls: false };
        let rounds = |millis| case.run(effort(millis), &mut Silent).unwrap()[0].samples.len();
        assert_eq!((rounds(0), rounds(60_000)), (PAIRS_MIN, 9));
    }

    struct Sleeper;

    impl Contestant for Sleeper {
        fn name(&self) -> String {
            "sleeper".into()
        }

        fn kind(&self) -> Kind {
            Kind::Ours
        }

        fn command(&self, _: &Path) -> Command {
            Command::new("true")
        }
    }

    #[test]
    fn a_contestant_that_does_not_do_the_work_is_found_out() {
        let error = run(vec![Box::new(Zeros("ours", 999))]).unwrap_err();
        assert!(error.to_string().contains("made 999 bytes"), "{error}");
    }
}
