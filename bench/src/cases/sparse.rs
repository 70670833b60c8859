//! A file that is mostly holes.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

use super::Workplace;
use crate::{
    contest::{Case, Contestant},
    contestants::{Attempt, sparse_rivals},
    measure::Meter,
    worker::Program,
};

/// The name of this case in results.
pub const NAME: &str = "sparse";

/// So much of an extent is data, one after the other.
const EXTENT_BYTES: u64 = 4 << 20;

/// A file of `bytes` with `data` bytes of data in extents that lie apart, copied until the copy is durable; ours
/// must not take more space than it does.
pub fn copy(program: &Program, place: &Workplace, bytes: u64, data: u64) -> io::Result<Case> {
    let source = make(place, bytes, data)?;
    let url = format!("file://{}", source.display());
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(Attempt::new(program, "staccato", url))];
    contestants.extend(sparse_rivals(&source).into_iter().map(|rival| Box::new(rival) as Box<dyn Contestant>));
    Ok(Case {
        settings: BTreeMap::from([("size".into(), bytes.to_string()), ("data".into(), data.to_string())]),
        target: Some(place.path("target")),
        sparse_like: Some(source.clone()),
        meters: Meter::of_disk(&source),
        cold: vec![source],
        ..Case::new(NAME, bytes, contestants)
    })
}

/// A durable file in which extents of data lie evenly.
fn make(place: &Workplace, bytes: u64, data: u64) -> io::Result<PathBuf> {
    let path = place.path("sparse");
    let file = File::create(&path)?;
    file.set_len(bytes)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut extent = vec![0; usize::try_from(EXTENT_BYTES).map_err(io::Error::other)?];
    let extents = (data / EXTENT_BYTES).max(1);
    for index in 0..extents {
        random.fill(&mut extent);
        file.write_all_at(&extent, index * (bytes / extents) / EXTENT_BYTES * EXTENT_BYTES)?;
    }
    file.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::allocated_bytes;

    #[test]
    fn a_sparse_file_has_as_much_data_as_was_asked_for() {
        let test = std::env::current_exe().unwrap();
        let place = Workplace::new(test.parent().unwrap()).unwrap();
        let path = make(&place, 256 << 20, 16 << 20).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 256 << 20);
        let allocated = allocated_bytes(&path).unwrap();
        assert!((16 << 20..20 << 20).contains(&allocated), "{allocated}");
    }
}
