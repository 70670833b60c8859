//! What only files can be tested for, and the contract's conformance suite on files.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Barrier},
    time::Duration,
};

use super::{FileProtocol, Root, RootAccess, Roots, lane_file::LaneFile, session::FileSession};
use crate::{
    ByteRange, CRC_BLOCK, Code, Error, Interrupt, ObjectUrl, Protocol, Runtime, Session,
    conformance::on_lane,
    contract::{CommitError, DestinationRequest, Found, Overwrite, SweepRequest, WriteShape},
};

mod conformance;

fn leavings(url: ObjectUrl) -> SweepRequest {
    SweepRequest { url, options: Default::default(), transfer: "t".into(), upload: None }
}

struct Folder {
    folder: tempfile::TempDir,
    roots: Arc<Roots>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = Arc::new(Roots::new(vec![Root::new(folder.path(), RootAccess::ReadWrite).unwrap()]));
        Self { folder, roots }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn url(&self, name: &str) -> ObjectUrl {
        ObjectUrl::parse(&format!("file://{}/{name}", self.path().display())).unwrap()
    }

    fn request(&self, name: &str, epoch: u64) -> DestinationRequest {
        DestinationRequest {
            url: self.url(name),
            options: Default::default(),
            transfer: "t".into(),
            epoch,
            overwrite: Overwrite::Never,
            resume: true,
            upload: None,
            prepared: None,
            interrupt: Interrupt::default(),
        }
    }

    fn begin(&self, name: &str, epoch: u64) -> Result<FileSession, Error> {
        FileSession::begin(self.roots.clone(), &self.request(name, epoch), Duration::from_millis(100))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Why a commit left the destination as it was.
fn not_done(result: Result<(), CommitError>) -> Code {
    match result {
        Err(CommitError::NotDone(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stopped_attempt_that_goes_on_renames_and_deletes_nothing_of_its_successor() {
    let folder = Folder::new();
    let mut stale = folder.begin("d", 1).unwrap();
    // The stopped process still holds its descriptor: the successor gets an inode of its own.
    let stale_file = File::options().write(true).open(folder.path().join(".d.staccato-t.1")).unwrap();
    stale_file.write_all_at(b"old", 0).unwrap();
    let mut later = folder.begin("d", 2).unwrap();
    assert_eq!(later.found(), Found::Partial);
    assert_ne!(stale.identity(), later.identity());
    let partial = folder.path().join(".d.staccato-t.2");
    assert_eq!(fs::read(&partial).unwrap(), b"old", "what was there is copied, to be compared");
    stale_file.write_all_at(b"NEW", 0).unwrap();
    stale.set_length(100).unwrap();
    assert_eq!(fs::read(&partial).unwrap(), b"old", "the stale attempt reaches its own inode only");
    assert_eq!(not_done(stale.commit()), Code::LeaseLost);
    stale.discard().unwrap();
    assert!(partial.exists());
    later.commit().unwrap();
    assert_eq!(fs::read(folder.path().join("d")).unwrap(), b"old");
    assert_eq!(folder.names(), ["d"]);
}

#[test]
fn a_predecessor_that_is_gone_hands_over_its_inode() {
    let folder = Folder::new();
    let mut first = folder.begin("d", 1).unwrap();
    first.append_block_crcs(&[(0, 5)]).unwrap();
    let identity = first.identity();
    drop(first);
    let mut third = folder.begin("d", 3).unwrap();
    assert_eq!((third.found(), third.identity()), (Found::Partial, identity));
    assert_eq!(third.load_block_crcs(1).unwrap(), [(0, 5)].into());
    assert_eq!(folder.names(), [".d.staccato-t.3", ".d.staccato-t.3.crc"]);
}

#[test]
fn an_epoch_that_was_overtaken_cannot_begin() {
    let folder = Folder::new();
    drop(folder.begin("d", 5).unwrap());
    assert!(folder.begin("d", 4).is_err());
    assert_eq!(folder.names(), [".d.staccato-t.5"]);
}

#[test]
fn a_take_over_touches_only_what_its_listing_of_the_folder_had() {
    let folder = Folder::new();
    let slow = folder.begin("d", 3).unwrap();
    fs::remove_file(folder.path().join(".d.staccato-t.3")).unwrap();
    for name in [".d.staccato-t.1.crc", ".d.staccato-t.2.crc"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let listing = slow.entries().unwrap();
    // A successor comes in between.
    let mut successor = folder.begin("d", 4).unwrap();
    assert!(!slow.take_over(&listing).unwrap(), "there was no partial");
    assert_eq!(folder.names(), [".d.staccato-t.4"]);
    successor.append_block_crcs(&[(0, 5)]).unwrap();
    assert_eq!(folder.names(), [".d.staccato-t.4", ".d.staccato-t.4.crc"], "made with the first note");
    successor.commit().unwrap();
    assert_eq!(folder.names(), ["d"]);
}

/// A crash while the partial that somebody holds is copied: `.held` is whole, the copy perhaps not.
#[test]
fn a_held_partial_whose_copy_was_interrupted_is_taken_over_itself() {
    for copied in [None, Some("who")] {
        let folder = Folder::new();
        let beside = |name: &str| folder.path().join(name);
        fs::write(beside(".d.staccato-t.1"), "older").unwrap();
        fs::write(beside(".d.staccato-t.2.held"), "whole").unwrap();
        if let Some(copied) = copied {
            fs::write(beside(".d.staccato-t.2"), copied).unwrap();
        }
        let session = folder.begin("d", 3).unwrap();
        assert_eq!(session.found(), Found::Partial);
        assert_eq!(fs::read(beside(".d.staccato-t.3")).unwrap(), b"whole");
        assert_eq!(folder.names(), [".d.staccato-t.3", ".d.staccato-t.3.crc"]);
    }
}

#[test]
fn left_overs_without_a_partial_are_removed() {
    let folder = Folder::new();
    for name in [".d.staccato-t.1.crc", ".d.staccato-t.2.crc", ".d.staccato-t.3.crc"] {
        fs::write(folder.path().join(name), "stale").unwrap();
    }
    let mut session = folder.begin("d", 3).unwrap();
    assert_eq!((session.found(), session.load_block_crcs(9).unwrap()), (Found::Nothing, [].into()));
    assert_eq!(folder.names(), [".d.staccato-t.3"]);
}

#[test]
fn a_destination_that_appears_during_the_transfer_is_not_replaced() {
    let folder = Folder::new();
    let mut session = folder.begin("d", 1).unwrap();
    fs::write(folder.path().join("d"), "theirs").unwrap();
    assert_eq!(not_done(session.commit()), Code::DestinationExists);
    assert_eq!(fs::read(folder.path().join("d")).unwrap(), b"theirs");
}

#[test]
fn a_folder_that_becomes_a_link_to_elsewhere_is_not_followed() {
    let folder = Folder::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let mut session = folder.begin("sub/d", 1).unwrap();
    // Swapped during the transfer: the session holds the folder it began in.
    fs::rename(folder.path().join("sub"), folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("sub")).unwrap();
    session.commit().unwrap();
    assert!(folder.path().join("moved/d").exists());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // And a new attempt does not go there at all.
    assert_eq!(folder.begin("sub/e", 1).err().unwrap().code, Code::PathOutsideRoots);
}

#[test]
fn a_sweep_removes_what_belongs_to_the_transfer_and_nothing_else() {
    let folder = Folder::new();
    drop(folder.begin("d", 1).unwrap());
    for name in ["d", ".d.staccato-u.1", ".other.staccato-t.1", ".d.staccato-t.7.held"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let protocol = FileProtocol::new((*folder.roots).clone());
    protocol.sweep(&leavings(folder.url("d"))).unwrap();
    assert_eq!(folder.names(), [".d.staccato-u.1", ".other.staccato-t.1", "d"]);
    protocol.sweep(&leavings(folder.url("nowhere/d"))).unwrap();
}

#[test]
fn a_name_of_255_bytes_can_be_written() {
    let folder = Folder::new();
    let name = "x".repeat(255);
    folder.begin(&name, 1).unwrap().commit().unwrap();
    assert_eq!(folder.names(), [name]);
}

#[test]
fn starting_over_means_a_new_inode() {
    let folder = Folder::new();
    let first = folder.begin("d", 1).unwrap();
    let request = DestinationRequest { resume: false, ..folder.request("d", 2) };
    let second = FileSession::begin(folder.roots.clone(), &request, Duration::ZERO).unwrap();
    assert_eq!(second.found(), Found::Nothing);
    assert_ne!(first.identity(), second.identity());
    assert_eq!(folder.names(), [".d.staccato-t.2"]);
}

#[test]
fn cloning_is_for_whole_files_on_one_file_system_that_can() {
    let folder = Folder::new();
    fs::write(folder.path().join("s"), "content").unwrap();
    let source = crate::contract::SourceRequest {
        url: folder.url("s"),
        options: Default::default(),
        pinned: None,
        aligned: true,
        interrupt: Interrupt::default(),
    };
    let mut session = folder.begin("d", 1).unwrap();
    let part = ByteRange::new(0, 3).unwrap();
    assert!(!session.try_clone(&source, part).unwrap(), "a part is not cloned");
    let cloned = session.try_clone(&source, ByteRange::new(0, 7).unwrap()).unwrap();
    session.commit().unwrap();
    let expected: &[u8] = if cloned { b"content" } else { b"" };
    assert_eq!(fs::read(folder.path().join("d")).unwrap(), expected);
}

/// Such a partial tells glommio nothing about its device when it is the first file that a lane opens there.
#[test]
fn a_partial_that_begins_with_a_hole_or_ends_in_its_first_sector_is_resumed_on_a_glommio_lane() {
    let folder = Folder::new();
    for (name, size, data) in [("hole", 2 * CRC_BLOCK, CRC_BLOCK), ("short", 5, 0)] {
        drop(folder.begin(name, 1).unwrap());
        let left = File::options().write(true).open(folder.path().join(format!(".{name}.staccato-t.1"))).unwrap();
        left.write_all_at(b"12345", data).unwrap();
        left.set_len(size).unwrap();
        drop(left);
        let mut session = folder.begin(name, 2).unwrap();
        assert_eq!(session.found(), Found::Partial);
        let open = session.open_on_lane(WriteShape { aligned: true }).unwrap();
        // A thread of its own: what glommio knows about devices, it knows by thread.
        std::thread::spawn(move || {
            on_lane(Runtime::Glommio, async |lane| {
                let destination = open(&lane).await.unwrap();
                let mut chunk = lane.pool.take(3).await;
                chunk.buffer_mut().unwrap()[..3].copy_from_slice(b"end");
                destination.write(3 * CRC_BLOCK, chunk).await.unwrap();
                destination.sync().await.unwrap();
                destination.close().await;
            });
        })
        .join()
        .unwrap();
        session.set_length(3 * CRC_BLOCK + 3).unwrap();
        session.commit().unwrap();
        let mut expected = vec![0; 3 * CRC_BLOCK as usize + 3];
        expected[data as usize..data as usize + 5].copy_from_slice(b"12345");
        expected[3 * CRC_BLOCK as usize..].copy_from_slice(b"end");
        let path = folder.path().join(name);
        assert!(fs::read(&path).unwrap() == expected, "{name}");
        let first_data = rustix::fs::seek(File::open(path).unwrap(), rustix::fs::SeekFrom::Data(0)).unwrap();
        assert_eq!(first_data, data, "{name}: a hole stays one");
    }
}

/// It can be written without O_DIRECT, and says nothing of its device that others would believe.
#[test]
fn a_partial_beside_which_there_is_no_room_is_written_all_the_same() {
    let folder = Folder::new();
    let gone = folder.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let partial = File::options().read(true).write(true).create_new(true).open(gone.join("d")).unwrap();
    fs::remove_dir_all(&gone).unwrap();
    fs::write(folder.path().join("whole"), [7; 4096]).unwrap();
    on_lane(Runtime::Glommio, async |lane| {
        let range = ByteRange::new(0, 4096).unwrap();
        let written = LaneFile::adopt(partial, Runtime::Glommio, true, true).await.unwrap();
        assert!(matches!(written, LaneFile::Buffered(_)));
        let whole = File::open(folder.path().join("whole")).unwrap();
        let whole = LaneFile::adopt(whole, Runtime::Glommio, true, false).await.unwrap();
        let chunk = whole.read(range, lane.pool.take(4096).await).await.unwrap();
        written.write(0, chunk, true).await.unwrap();
        // The last one ends where the object does.
        let mut last = lane.pool.take(3).await;
        last.buffer_mut().unwrap()[..3].copy_from_slice(b"end");
        written.write(4096, last, true).await.unwrap();
        let back = written.read(ByteRange::new(0, 4099).unwrap(), lane.pool.take(4099).await).await.unwrap();
        assert_eq!(back.bytes(), Some(&[&[7; 4096][..], b"end"].concat()[..]));
        whole.close().await.unwrap();
        written.close().await.unwrap();
    });
}

/// Each of them finds out whether the device can be polled; none may be led astray by what another takes back meanwhile.
#[test]
fn lanes_that_open_one_partial_at_once_learn_the_truth_about_its_device() {
    let folder = Folder::new();
    fs::write(folder.path().join("whole"), [7; 4096]).unwrap();
    for round in 0..30 {
        let mut session = folder.begin(&format!("d{round}"), 1).unwrap();
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let open = session.open_on_lane(WriteShape { aligned: true }).unwrap();
                scope.spawn(|| {
                    on_lane(Runtime::Glommio, async |lane| {
                        both.wait();
                        let destination = open(&lane).await.unwrap();
                        // Through the polled ring it fails where a device cannot be polled.
                        let file = File::open(folder.path().join("whole")).unwrap();
                        let whole = LaneFile::adopt(file, Runtime::Glommio, true, false).await.unwrap();
                        let chunk = lane.pool.take(4096).await;
                        let read = whole.read(ByteRange::new(0, 4096).unwrap(), chunk).await;
                        assert_eq!(read.unwrap().len(), 4096, "round {round}");
                        whole.close().await.unwrap();
                        destination.close().await;
                    });
                });
            }
        });
        session.discard().unwrap();
    }
}

#[test]
fn links_do_not_lead_into_a_root_within_a_root() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("inner/deep")).unwrap();
    fs::create_dir(folder.path().join("plain")).unwrap();
    for name in ["inner/secret", "plain/open", "inner/deep/er"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    for (link, to) in [("way", "inner"), ("deeper", "inner/deep"), ("file", "inner/secret"), ("fine", "plain")] {
        std::os::unix::fs::symlink(to, folder.path().join(link)).unwrap();
    }
    let inner = Root::new(folder.path().join("inner"), RootAccess::ReadOnly).unwrap();
    let outer = Root::new(folder.path(), RootAccess::ReadWrite).unwrap();
    let nested = Folder { roots: Arc::new(Roots::new(vec![outer, inner])), folder: folder.folder };
    let open = |name: &str| {
        let url = nested.url(name);
        let place = nested.roots.locate(&url, false).unwrap();
        let opened = place.open(rustix::fs::OFlags::RDONLY);
        opened.map(drop).map_err(|error| place.open_error(&error, Code::SourceMissing, Code::ReadFailed).code)
    };
    for name in ["inner/secret", "plain/open", "fine/open", "inner/deep/er"] {
        assert_eq!(open(name), Ok(()), "{name}");
    }
    for name in ["way/secret", "file", "deeper/er", "way/deep/er"] {
        assert_eq!(open(name), Err(Code::PathOutsideRoots), "{name}");
    }
    assert_eq!(nested.begin("way/new", 1).err().unwrap().code, Code::PathOutsideRoots);
    assert_eq!(nested.begin("inner/new", 1).err().unwrap().code, Code::RootReadOnly);
    assert!(nested.begin("fine/new", 1).is_ok());
}
