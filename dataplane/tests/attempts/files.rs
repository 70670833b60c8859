//! Whole attempts, from file to file.

use std::{os::unix::fs::MetadataExt, time::Duration};

use staccato_dataplane::attempt::{Outcome, Part, StopReason};
use staccato_protocols::{Code, contract::Overwrite};

use crate::keeper::{Told, World, bytes, on_both_lanes};

const MIB: usize = 1 << 20;

fn committed(world: &World, spec: staccato_dataplane::attempt::AttemptSpec) -> staccato_dataplane::attempt::Completion {
    match world.run(spec).0 {
        Outcome::Committed(completion) => completion,
        other => panic!("{other:?}"),
    }
}

fn failure(world: &World, spec: staccato_dataplane::attempt::AttemptSpec) -> Code {
    match world.run(spec).0 {
        Outcome::Failed { error } => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_size_around_blocks_and_chunks_arrives_whole() {
    on_both_lanes(|world| {
        for len in [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 40 * MIB + 4095] {
            let content = bytes(len as u64, len);
            let (source, destination) = (format!("s{len}"), format!("d{len}"));
            world.write(&source, &content);
            let completion = committed(&world, world.spec(&source, &destination));
            assert!(world.read(&destination) == content, "{len} bytes differ");
            assert_eq!(completion.bytes_total, len as u64);
            assert_eq!(completion.crc32, Some(crc32fast::hash(&content)), "{len} bytes");
        }
        assert!(world.names().iter().all(|name| !name.contains("staccato")), "{:?}", world.names());
    });
}

#[test]
fn a_part_is_written_at_offset_0() {
    on_both_lanes(|world| {
        let content = bytes(1, 9 * MIB);
        world.write("s", &content);
        for (start, end) in [(0, Some(5)), (5, Some(6 * MIB as u64 + 3)), (MIB as u64, None), (9 * MIB as u64, None)] {
            let name = format!("d{start}");
            let completion = committed(&world, {
                let mut spec = world.spec("s", &name);
                spec.part = Part { start, end };
                spec
            });
            let wanted = &content[start as usize..end.map_or(content.len(), |end| end as usize)];
            assert!(world.read(&name) == wanted);
            assert_eq!(completion.crc32, Some(crc32fast::hash(wanted)));
        }
        let mut spec = world.spec("s", "beyond");
        spec.part = Part { start: 1, end: Some(9 * MIB as u64 + 1) };
        assert_eq!(failure(&world, spec), Code::RangeOutsideObject);
    });
}

#[test]
fn holes_and_zero_blocks_take_no_space() {
    on_both_lanes(|world| {
        let len = 64 * MIB;
        let mut content = vec![0; len];
        content[3 * MIB..4 * MIB].copy_from_slice(&bytes(1, MIB));
        content[33 * MIB..33 * MIB + 100].fill(7);
        world.write("stored", &content);
        let sparse = std::fs::File::create(world.folder.path().join("sparse")).unwrap();
        sparse.set_len(len as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &content[3 * MIB..4 * MIB], 3 * MIB as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[7; 100], 33 * MIB as u64).unwrap();
        for (name, fetched_max) in [("stored", len), ("sparse", 3 * MIB)] {
            let completion = committed(&world, world.spec(name, &format!("d-{name}")));
            assert!(world.read(&format!("d-{name}")) == content);
            assert!(completion.bytes_fetched <= fetched_max as u64, "{name}: {}", completion.bytes_fetched);
            let stored = std::fs::metadata(world.folder.path().join(format!("d-{name}"))).unwrap().blocks() * 512;
            assert!(stored <= 3 * MIB as u64, "{name} takes {stored} bytes");
        }
    });
}

#[test]
fn an_existing_destination_is_kept_unless_told_otherwise() {
    on_both_lanes(|world| {
        world.write("s", b"new");
        world.write("d", b"old");
        assert_eq!(failure(&world, world.spec("s", "d")), Code::DestinationExists);
        assert_eq!(world.read("d"), b"old");
        let mut spec = world.spec("s", "d");
        spec.overwrite = Overwrite::Always;
        committed(&world, spec);
        assert_eq!(world.read("d"), b"new");
    });
}

#[test]
fn a_wrong_checksum_never_commits_and_a_right_one_does() {
    on_both_lanes(|world| {
        world.write("s", b"123456789");
        for (checksum, right) in [
            ("crc32:cbf43926", true),
            ("crc32c:e3069283", true),
            ("md5:25f9e794323b453885f5181f1b624d0b", true),
            ("sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225", true),
            ("crc32:cbf43927", false),
            ("md5:25f9e794323b453885f5181f1b624d0c", false),
        ] {
            let mut spec = world.spec("s", checksum);
            spec.checksum = Some(checksum.parse().unwrap());
            let (outcome, _) = world.run(spec);
            match outcome {
                Outcome::Committed(_) => assert!(right, "{checksum}"),
                Outcome::Failed { error } => assert!(!right && error.code == Code::ChecksumMismatch, "{error:?}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(world.names().iter().any(|name| name == checksum), right);
        }
        assert!(world.names().iter().all(|name| !name.contains("staccato")), "{:?}", world.names());
    });
}

#[test]
fn what_cannot_be_moved_says_why() {
    on_both_lanes(|world| {
        world.write("s", b"x");
        std::fs::create_dir(world.folder.path().join("dir")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, world.folder.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", world.folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/tmp", world.folder.path().join("outdir")).unwrap();
        for (source, destination, code) in [
            ("missing", "d", Code::SourceMissing),
            ("dir", "d", Code::SourceNotRegular),
            ("fifo", "d", Code::SourceNotRegular),
            ("out", "d", Code::PathOutsideRoots),
            ("s", "dir", Code::DestinationNotRegular),
            ("s", "nowhere/d", Code::DestinationFolderMissing),
            ("s", "outdir/d", Code::PathOutsideRoots),
        ] {
            assert_eq!(failure(&world, world.spec(source, destination)), code, "{source} to {destination}");
        }
    });
}

#[test]
fn a_cancel_leaves_nothing_behind() {
    on_both_lanes(|world| {
        world.write("s", &bytes(1, 32 * MIB));
        let mut spec = world.spec("s", "d");
        spec.rate_limit = Some(4 * MIB as u64);
        let (handle, hear) = world.start(spec);
        assert!(matches!(hear.recv_timeout(Duration::from_secs(20)).unwrap(), Told::Checkpoint(_)));
        handle.stop(StopReason::Cancel);
        let told = hear.iter().last().unwrap();
        assert_eq!(told, Told::Finished(Outcome::Stopped { reason: StopReason::Cancel }));
        assert_eq!(world.names(), ["s"]);
    });
}

#[test]
fn nothing_is_renamed_after_the_lease() {
    on_both_lanes(|mut world| {
        world.write("s", b"x");
        world.lease = Duration::ZERO;
        let (outcome, told) = world.run(world.spec("s", "d"));
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::LeaseLost });
        assert!(matches!(told[..], [Told::Prepare(_)]));
        assert!(!world.names().contains(&"d".to_owned()));
    });
}
