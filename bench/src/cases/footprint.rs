//! How much memory a transfer takes.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::Workplace;
use crate::{contest::Case, contestants::Attempt, worker::Program};

/// The name of this case in results.
pub const NAME: &str = "footprint";

/// Data in each GiB of the object.
const DATA_PER_GIB: usize = 4 << 20;

/// A file of `bytes`, nearly all of it holes: what its attempt holds in memory must not grow with its size.
pub fn of_size(program: &Program, place: &Workplace, bytes: u64) -> io::Result<Case> {
    let path = place.path(&format!("holes-{bytes}"));
    let file = File::create(&path)?;
    file.set_len(bytes)?;
    let mut data = vec![0; DATA_PER_GIB];
    fastrand::Rng::with_seed(1).fill(&mut data);
    for start in (0..bytes).step_by(1 << 30) {
        file.write_all_at(&data, start)?;
    }
    file.sync_all()?;
    let attempt = Attempt::new(program, "staccato", format!("file://{}", path.display()));
    Ok(Case { target: Some(place.path("target")), cold: vec![path], ..Case::new(NAME, bytes, vec![Box::new(attempt)]) })
}
