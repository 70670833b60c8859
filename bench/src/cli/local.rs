//! `local`: this machine.

use std::{io, path::PathBuf};

use clap::Args;

use super::measuring::{Lines, Measuring};
use crate::{
    cases::{self, Workplace},
    contest::{Case, run_all},
    measure::MemoryState,
    probe::disk::Direction,
    worker::Program,
};

/// Arguments of `local`.
#[derive(Debug, Args)]
pub struct Local {
    /// Folder on the disk to measure; needs three times the object free, or all small objects of all pairs twice
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// MiB of the object; some cases have one that is larger, by a factor that they name
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Small objects, of 64 KiB each
    #[arg(long, default_value_t = 2_000)]
    objects: usize,
    /// Count system calls, in a further run of each contestant (needs strace)
    #[arg(long)]
    system_calls: bool,
    #[command(flatten)]
    measuring: Measuring,
}

/// Cases that are made when their turn comes, and the share of the time that they may take together.
struct Planned {
    name: &'static str,
    share: f64,
    make: Make,
}

type Make = Box<dyn Fn(&Program, &Workplace) -> io::Result<Vec<Case>>>;

impl Local {
    /// Measures, and prints a table for each case.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let planned = self.planned()?;
        let mut results = self.measuring.begin(&self.folder)?;
        let shares: f64 = planned.iter().map(|planned| planned.share).sum();
        for Planned { share, make, .. } in planned {
            // Of its own for each case: nothing of one takes space from the next.
            let place = Workplace::new(&self.folder)?;
            let mut cases = make(program, &place)?;
            cases.iter_mut().for_each(|case| case.keep(&self.measuring.contestants));
            let effort = self.measuring.effort(share / shares, self.system_calls)?;
            run_all(&cases, effort, &mut Lines)?.into_iter().try_for_each(|series| results.take(series))?;
        }
        results.finish()
    }

    /// The cases that are wanted, in their order.
    fn planned(&self) -> io::Result<Vec<Planned>> {
        let bytes = self.mib << 20;
        let mut all = Vec::new();
        let mut plan = |name, share, make: Make| all.push(Planned { name, share, make });
        for (name, direction) in
            [("disk-read", Direction::Read), ("disk-write", Direction::Write), ("disk-both", Direction::Both)]
        {
            plan(name, 0.5, one(move |program, place| cases::machine::disk(program, place, bytes, direction)));
        }
        plan("disk-write-again", 0.5, one(move |program, place| cases::machine::disk_again(program, place, bytes)));
        plan("processor", 0.3, one(|program, _| Ok(cases::machine::processor(program))));
        plan("lanes", 0.3, one(move |program, _| Ok(cases::machine::lanes(program, 4 * bytes))));
        for memory in [MemoryState::Touched, MemoryState::AsFound] {
            plan(cases::file::NAME, 3.0, one(move |program, place| cases::file::copy(program, place, bytes, memory)));
        }
        let memory = MemoryState::Touched;
        plan(cases::plug_in::NAME, 1.0, one(move |program, place| cases::plug_in::copy(program, place, bytes, memory)));
        for (name, secure) in [(cases::http::NAME, false), (cases::http::NAME_SECURE, true)] {
            plan(name, 2.0, one(move |program, place| cases::http::fetch(program, place, bytes, secure)));
        }
        plan(
            cases::sweep::NAME_CHUNKS,
            1.5,
            Box::new(move |program, place| cases::sweep::chunk_sizes(program, place, bytes)),
        );
        plan(
            cases::sweep::NAME_DEPTHS,
            1.0,
            Box::new(move |program, place| cases::sweep::depths(program, place, bytes)),
        );
        plan(
            cases::sparse::NAME,
            1.0,
            one(move |program, place| cases::sparse::copy(program, place, 4 * bytes, bytes / 4)),
        );
        plan(cases::overhead::NAME, 1.0, one(move |program, place| cases::overhead::copy(program, place, bytes)));
        let (objects, size, slots) = (self.objects, 64 << 10, 64);
        plan(
            cases::small::NAME,
            1.0,
            one(move |program, place| Ok(cases::small::transfers(program, place, objects, size, slots))),
        );
        for size in [4 << 30, 64 << 30] {
            plan(
                cases::footprint::NAME,
                0.3,
                one(move |program, place| cases::footprint::of_size(program, place, size)),
            );
        }
        self.measuring.wanted(all, |planned| planned.name.to_owned())
    }
}

/// A case by itself.
fn one(make: impl Fn(&Program, &Workplace) -> io::Result<Case> + 'static) -> Make {
    Box::new(move |program, place| Ok(vec![make(program, place)?]))
}
