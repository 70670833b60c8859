//! Attempts that repair what is at the destination.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    rc::Rc,
};

use futures_util::future::LocalBoxFuture;
use staccato_dataplane::{
    Dataplane,
    attempt::{AttemptSpec, Completion, Outcome, Part, StopReason},
};
use staccato_protocols::{
    BufferPool, ByteRange, Capabilities, Chunk, Code, Error, Lane, Object, ObjectUrl, Options, Protocol, Registry,
    Session, Source,
    contract::{DestinationRequest, Overwrite, SourceRequest, Sums, SweepRequest},
    file::{FileProtocol, Root, RootAccess, Roots},
};

use crate::keeper::{Told, World, bytes, on_both_lanes};

const MIB: usize = 1 << 20;

/// Repairs `d` from what [`write_source`] wrote. The source lies elsewhere: it could be cloned otherwise.
fn spec(world: &World) -> AttemptSpec {
    let source_url = ObjectUrl::parse(&format!("file://{}/s", world.elsewhere.path().display())).unwrap();
    AttemptSpec { source_url, overwrite: Overwrite::Repair, ..world.spec("s", "d") }
}

fn write_source(world: &World, bytes: &[u8]) {
    fs::write(world.elsewhere.path().join("s"), bytes).unwrap();
}

fn committed(world: &World, spec: AttemptSpec) -> Completion {
    match world.run(spec).0 {
        Outcome::Committed(completion) => completion,
        other => panic!("{other:?}"),
    }
}

fn inode(world: &World) -> u64 {
    fs::metadata(world.folder.path().join("d")).unwrap().ino()
}

/// The same bytes but for one of each of these blocks.
fn flipped(content: &[u8], blocks: &[usize]) -> Vec<u8> {
    let mut flipped = content.to_vec();
    for block in blocks {
        flipped[(block * MIB + 77 * block).min(content.len() - 1)] ^= 1;
    }
    flipped
}

#[test]
fn what_is_right_costs_nothing_and_stays_as_it_is() {
    on_both_lanes(|world| {
        for len in [0, 1, MIB, 4 * MIB + 1, 40 * MIB + 4095] {
            let content = bytes(len as u64, len);
            write_source(&world, &content);
            world.write("d", &content);
            let before = inode(&world);
            let completion = committed(&world, spec(&world));
            assert_eq!((completion.bytes_fetched, completion.bytes_total), (0, len as u64));
            assert_eq!(completion.crc32, Some(crc32fast::hash(&content)));
            assert_eq!(completion.identity.map(|identity| identity.inode), Some(before));
            assert_eq!(inode(&world), before, "nothing was replaced");
            assert!(world.read("d") == content);
            assert_eq!(world.names(), ["d"]);
        }
    });
}

#[test]
fn a_flipped_byte_costs_a_block() {
    on_both_lanes(|world| {
        let content = bytes(1, 40 * MIB + 4095);
        write_source(&world, &content);
        for block in [0, 5, 7, 39, 40] {
            world.write("d", &flipped(&content, &[block]));
            let before = inode(&world);
            let (outcome, _) = world.run(spec(&world));
            let Outcome::Committed(completion) = outcome else { panic!("{outcome:?}") };
            let fetched = if block == 40 { 4095 } else { MIB as u64 };
            assert_eq!(completion.bytes_fetched, fetched, "block {block}");
            assert_eq!(completion.crc32, Some(crc32fast::hash(&content)));
            assert!(world.read("d") == content, "block {block}");
            assert_ne!(inode(&world), before, "it is replaced as a whole");
            assert_eq!(world.names(), ["d"]);
        }
    });
}

#[test]
fn whatever_is_there_exactly_what_differs_is_fetched() {
    on_both_lanes(|world| {
        let mut rng = fastrand::Rng::with_seed(7);
        for round in 0..24 {
            let length = |rng: &mut fastrand::Rng| rng.usize(..18) * MIB + [0, 1, 4096, MIB - 1][rng.usize(..4)];
            let content = bytes(round, length(&mut rng));
            let mut old = content.clone();
            old.resize(length(&mut rng), 9);
            let likely = [0.0, 0.1, 0.5, 1.0][rng.usize(..4)];
            for block in old.chunks_mut(MIB) {
                if rng.f64() < likely {
                    block[0] ^= 1;
                }
            }
            let wrong = |(at, block): (usize, &[u8])| old.get(at * MIB..at * MIB + block.len()) != Some(block);
            let differing = content.chunks(MIB).enumerate().filter(|block| wrong(*block));
            let differing: usize = differing.map(|(_, block)| block.len()).sum();
            write_source(&world, &content);
            world.write("d", &old);
            let completion = committed(&world, spec(&world));
            let lengths = (content.len(), old.len());
            assert!(world.read("d") == content, "round {round}, {lengths:?}");
            assert_eq!(completion.bytes_fetched, differing as u64, "round {round}, {lengths:?}");
            assert_eq!(completion.crc32, Some(crc32fast::hash(&content)));
        }
        assert_eq!(world.names(), ["d"]);
    });
}

#[test]
fn where_nothing_is_a_repair_is_a_transfer() {
    on_both_lanes(|world| {
        let content = bytes(1, 9 * MIB + 5);
        write_source(&world, &content);
        let completion = committed(&world, spec(&world));
        assert_eq!(completion.bytes_fetched, content.len() as u64);
        assert!(world.read("d") == content);
    });
}

#[test]
fn a_part_is_repaired_wherever_it_begins() {
    on_both_lanes(|world| {
        let content = bytes(1, 12 * MIB);
        write_source(&world, &content);
        for start in [MIB, 5] {
            let wanted = &content[start..9 * MIB + 3];
            world.write("d", &flipped(wanted, &[2]));
            let part = Part { start: start as u64, end: Some(9 * MIB as u64 + 3) };
            let completion = committed(&world, AttemptSpec { part, ..spec(&world) });
            assert_eq!(completion.bytes_fetched, MIB as u64);
            assert!(world.read("d") == wanted);
        }
    });
}

#[test]
fn zero_blocks_and_holes_stay_or_become_holes() {
    on_both_lanes(|world| {
        let len = 24 * MIB;
        let data = bytes(1, MIB);
        let sparse = |path: std::path::PathBuf, stored: &[(usize, &[u8])]| {
            let file = fs::File::create(path).unwrap();
            file.set_len(len as u64).unwrap();
            stored.iter().for_each(|(block, data)| file.write_all_at(data, (block * MIB) as u64).unwrap());
        };
        sparse(world.elsewhere.path().join("s"), &[(3, &data)]);
        // What shall not be zero is another one, or a hole, and what shall be is not.
        for old in [&[(3, &[1; 9][..]), (20, b"x")][..], &[(20, b"x")], &[(3, &data), (20, b"x")]] {
            sparse(world.folder.path().join("d"), old);
            let completion = committed(&world, spec(&world));
            let right = old[0].1 == data;
            assert_eq!(completion.bytes_fetched, if right { 0 } else { MIB as u64 });
            let mut content = vec![0; len];
            content[3 * MIB..4 * MIB].copy_from_slice(&data);
            assert!(world.read("d") == content);
            let stored = fs::metadata(world.folder.path().join("d")).unwrap().blocks() * 512;
            assert!(stored < 2 * MIB as u64, "it takes {stored} bytes");
        }
    });
}

#[test]
fn a_checksum_is_that_of_what_stays_and_a_wrong_one_touches_nothing() {
    on_both_lanes(|world| {
        let content = bytes(1, 6 * MIB);
        write_source(&world, &content);
        let digest = "sha256:".to_owned() + &sha256(&content);
        let wrong = "sha256:".to_owned() + &sha256(b"other");
        for old in [content.clone(), flipped(&content, &[4])] {
            world.write("d", &old);
            let checksum = Some(wrong.parse().unwrap());
            let (outcome, _) = world.run(AttemptSpec { checksum, ..spec(&world) });
            let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
            assert_eq!(error.code, Code::ChecksumMismatch);
            assert!(world.read("d") == old, "it is as it was");
            assert_eq!(world.names(), ["d"]);
            let checksum = Some(digest.parse().unwrap());
            committed(&world, AttemptSpec { epoch: 2, checksum, ..spec(&world) });
            assert!(world.read("d") == content);
        }
    });
}

fn sha256(bytes: &[u8]) -> String {
    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[test]
fn a_repair_that_was_stopped_goes_on_and_leaves_what_is_there_until_then() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 48 * MIB + 17);
        // Every second block differs.
        let wrong: Vec<usize> = (0..48).step_by(2).collect();
        let old = flipped(&content, &wrong);
        write_source(&world, &content);
        world.write("d", &old);
        world.stop_at = Some((1, StopReason::Shutdown));
        let rate_limit = Some(8 * MIB as u64);
        let (outcome, told) = world.run(AttemptSpec { rate_limit, ..spec(&world) });
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Shutdown });
        assert!(world.read("d") == old, "it is as it was");
        let Some(Told::Checkpoint(report)) = told.last() else { panic!("{told:?}") };
        let durable = |block: usize| {
            let block = ByteRange::at((block * MIB) as u64, MIB as u64).unwrap();
            report.ranges.iter().any(|known| known.range.contains(block))
        };
        let left = wrong.iter().filter(|block| !durable(**block)).count();
        assert!(left < wrong.len() && left > 0, "it was stopped half-way: {left} blocks are left");
        assert_eq!(report.bytes_fetched, ((wrong.len() - left) * MIB) as u64);

        world.stop_at = None;
        let (validator, checkpoint) = (report.validator.clone(), report.ranges.clone());
        let completion = committed(&world, AttemptSpec { epoch: 2, validator, checkpoint, ..spec(&world) });
        assert_eq!(completion.bytes_fetched, (left * MIB) as u64);
        assert_eq!(completion.crc32, Some(crc32fast::hash(&content)));
        assert!(world.read("d") == content);
        assert_eq!(world.names(), ["d"]);
    });
}

#[test]
fn a_kept_object_that_was_prepared_is_recognised_by_the_next_attempt() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 3 * MIB);
        write_source(&world, &content);
        world.write("d", &content);
        world.lease = std::time::Duration::ZERO;
        let (outcome, told) = world.run(spec(&world));
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::LeaseLost });
        let Some(Told::Prepare(prepared)) = told.last() else { panic!("{told:?}") };
        world.lease = std::time::Duration::MAX;
        let again = AttemptSpec { epoch: 2, prepared: Some(*prepared), ..spec(&world) };
        assert_eq!(committed(&world, again), *prepared);
        assert_eq!(world.names(), ["d"], "the partial of the first one is gone");
    });
}

#[test]
fn a_canceled_repair_leaves_what_is_there() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 24 * MIB);
        let old = bytes(2, 24 * MIB);
        write_source(&world, &content);
        world.write("d", &old);
        world.stop_at = Some((1, StopReason::Cancel));
        let (outcome, _) = world.run(AttemptSpec { rate_limit: Some(8 * MIB as u64), ..spec(&world) });
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Cancel });
        assert!(world.read("d") == old);
        assert_eq!(world.names(), ["d"]);
    });
}

#[test]
fn what_is_no_regular_file_is_not_repaired() {
    on_both_lanes(|world| {
        world.write("s", b"x");
        world.write("target", b"x");
        fs::create_dir(world.folder.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("target", world.folder.path().join("link")).unwrap();
        for name in ["dir", "link"] {
            for overwrite in [Overwrite::Always, Overwrite::Repair] {
                let outcome = world.run(AttemptSpec { overwrite, ..world.spec("s", name) }).0;
                let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
                assert_eq!(error.code, Code::DestinationNotRegular, "{name}, {overwrite:?}");
            }
        }
    });
}

#[test]
fn what_must_not_be_read_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    on_both_lanes(|world| {
        let content = bytes(1, 5 * MIB);
        write_source(&world, &content);
        world.write("d", &content);
        fs::set_permissions(world.folder.path().join("d"), fs::Permissions::from_mode(0o000)).unwrap();
        let completion = committed(&world, spec(&world));
        // Root may read everything.
        let root = rustix::process::geteuid().is_root();
        assert_eq!(completion.bytes_fetched, if root { 0 } else { content.len() as u64 });
    });
}

/// Files whose source half is another one.
struct Wrapped<S> {
    files: FileProtocol,
    wrap: S,
}

impl<S: Fn(Rc<dyn Source>) -> Rc<dyn Source> + Send + Sync + 'static> Protocol for Wrapped<S> {
    fn schemes(&self) -> &'static [&'static str] {
        self.files.schemes()
    }

    fn capabilities(&self) -> Capabilities {
        self.files.capabilities()
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.files.check_source(url, options)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.files.check_destination(url, options)
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        Box::pin(async move { Ok((self.wrap)(self.files.open_source(request, lane).await?)) })
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        self.files.begin(request)
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        self.files.sweep(request)
    }
}

impl World {
    /// The same world, with other sources.
    fn with_sources(self, wrap: impl Fn(Rc<dyn Source>) -> Rc<dyn Source> + Send + Sync + 'static) -> Self {
        let root = |folder: &tempfile::TempDir| Root::new(folder.path(), RootAccess::ReadWrite).unwrap();
        let files = FileProtocol::new(Roots::new(vec![root(&self.folder), root(&self.elsewhere)]));
        let registry = Registry::new().with(Wrapped { files, wrap });
        let dataplane = Dataplane::start(self.config.clone(), registry).unwrap();
        Self { dataplane, ..self }
    }
}

/// A file whose CRCs nobody tells, as with a web server; or one whose CRCs are told by somebody who does something else
/// beforehand.
struct Sourced {
    file: Rc<dyn Source>,
    meddle: Option<Box<dyn Fn(ByteRange)>>,
}

impl Source for Sourced {
    fn object(&self) -> &Object {
        self.file.object()
    }

    fn sums(&self) -> Option<&dyn Sums> {
        self.meddle.is_some().then_some(self)
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.file.read(range, pool)
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.file.revalidate()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        self.file.clone().close()
    }
}

impl Sums for Sourced {
    fn crcs<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>> {
        if let Some(meddle) = &self.meddle {
            meddle(range);
        }
        self.file.sums().expect("files have sums").crcs(range, pool)
    }
}

#[test]
fn from_a_source_that_tells_no_sums_everything_is_fetched() {
    on_both_lanes(|world| {
        let world = world.with_sources(|file| Rc::new(Sourced { file, meddle: None }));
        let content = bytes(1, 9 * MIB);
        write_source(&world, &content);
        world.write("d", &content);
        let before = inode(&world);
        let completion = committed(&world, spec(&world));
        assert_eq!(completion.bytes_fetched, content.len() as u64);
        assert!(world.read("d") == content);
        assert_ne!(inode(&world), before);
    });
}

/// A block that was found right is not any more when the last one is compared.
#[test]
fn what_changes_while_it_is_compared_is_replaced_by_what_is_right() {
    on_both_lanes(|world| {
        let content = bytes(1, 64 * MIB);
        let place = world.folder.path().join("d");
        let world = world.with_sources(move |file| {
            let place = place.clone();
            let meddle = move |range: ByteRange| {
                if range.end() == 64 * MIB as u64 {
                    let file = fs::File::options().write(true).open(&place).unwrap();
                    file.write_all_at(b"changed", 5).unwrap();
                }
            };
            Rc::new(Sourced { file, meddle: Some(Box::new(meddle)) })
        });
        write_source(&world, &content);
        world.write("d", &content);
        let before = inode(&world);
        let completion = committed(&world, AttemptSpec { chunk_size: Some(MIB as u64), ..spec(&world) });
        assert!(world.read("d") == content);
        assert_ne!(inode(&world), before, "it is replaced");
        // A clone has what was there before.
        assert!([0, MIB as u64].contains(&completion.bytes_fetched), "{}", completion.bytes_fetched);
        assert_eq!(completion.crc32, Some(crc32fast::hash(&content)));
        assert_eq!(world.names(), ["d"]);
    });
}
