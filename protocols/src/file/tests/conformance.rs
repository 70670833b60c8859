//! The contract's conformance suite, on both runtimes and on a disk as well as in memory (tmpfs).

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustix::fs::statfs;

use crate::{
    CRC_BLOCK, ObjectUrl, Runtime,
    conformance::{self, DestinationHarness, Made, SourceHarness, sample},
    contract::SharedProtocol,
    file::{FileProtocol, Root, RootAccess, Roots},
};

/// Statfs's `f_type` of tmpfs, statfs(2).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Files in a folder of their own on one file system.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    /// Beside the test's executable: wherever that lies, it is a disk.
    fn on_disk() -> Rc<Self> {
        let executable = std::env::current_exe().expect("a test knows its own path");
        let folder = Self::within(executable.parent().expect("a file lies in a folder").to_owned());
        assert_ne!(folder.file_system(), TMPFS_MAGIC, "the target folder lies on a disk");
        folder
    }

    /// `/dev/shm`, which Linux hosts have for POSIX shared memory, shm_overview(7).
    fn in_memory() -> Rc<Self> {
        let folder = Self::within("/dev/shm".into());
        assert_eq!(folder.file_system(), TMPFS_MAGIC, "shared memory lies on tmpfs");
        folder
    }

    fn within(parent: PathBuf) -> Rc<Self> {
        Rc::new(Self { folder: tempfile::tempdir_in(parent).expect("a folder can be made") })
    }

    fn file_system(&self) -> i64 {
        statfs(self.folder.path()).expect("the folder can be looked at").f_type
    }

    fn path_of(url: &ObjectUrl) -> PathBuf {
        url.url().to_file_path().expect("the harness makes file URLs")
    }

    fn module(&self) -> SharedProtocol {
        let root = Root::new(self.folder.path(), RootAccess::ReadWrite).expect("the root is absolute");
        // The suite's stale attempt never lets go: a short wait for it shows the same.
        Arc::new(FileProtocol::new(Roots::new(vec![root])).fence_wait(Duration::from_millis(100)))
    }

    fn url_of(&self, name: &str) -> ObjectUrl {
        let url = url::Url::from_file_path(self.folder.path().join(name)).expect("the folder's path is absolute");
        ObjectUrl::parse(url.as_str()).expect("what url makes is a URL")
    }
}

impl SourceHarness for Folder {
    fn protocol(&self) -> SharedProtocol {
        self.module()
    }

    /// Every second block of a file is a hole.
    fn make(&self, name: &str, len: usize) -> Made {
        let url = self.url_of(name);
        let mut bytes = sample(name, len);
        let mut file = fs::File::create(Self::path_of(&url)).expect("a file can be made");
        for (index, block) in bytes.chunks_mut(CRC_BLOCK as usize).enumerate() {
            if index % 2 == 1 {
                block.fill(0);
                continue;
            }
            file.seek(SeekFrom::Start(index as u64 * CRC_BLOCK)).expect("files can be sought in");
            file.write_all(block).expect("the file can be written");
        }
        file.set_len(len as u64).expect("the file can be extended");
        Made { url, bytes }
    }

    fn change(&self, made: &Made) -> bool {
        let bytes: Vec<u8> = made.bytes.iter().map(|byte| !byte).collect();
        fs::write(Self::path_of(&made.url), bytes).expect("the file can be written");
        true
    }

    fn missing(&self) -> Option<ObjectUrl> {
        Some(self.url_of("missing"))
    }
}

impl DestinationHarness for Folder {
    fn protocol(&self) -> SharedProtocol {
        self.module()
    }

    fn url(&self, name: &str) -> ObjectUrl {
        self.url_of(name)
    }

    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        fs::read(Self::path_of(url)).ok()
    }

    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        fs::write(Self::path_of(url), bytes).expect("a file can be made");
    }

    fn left_overs(&self) -> usize {
        let entries = fs::read_dir(self.folder.path()).expect("the folder can be read");
        let names = entries.map(|entry| entry.expect("the folder can be read").file_name());
        names.filter(|name| name.to_string_lossy().contains(".staccato-")).count()
    }
}

#[test]
fn file_sources_on_disk_conform_on_tokio_uring() {
    conformance::check_source(Folder::on_disk(), Runtime::TokioUring);
}

#[test]
fn file_sources_on_disk_conform_on_glommio() {
    conformance::check_source(Folder::on_disk(), Runtime::Glommio);
}

#[test]
fn file_sources_in_memory_conform_on_tokio_uring() {
    conformance::check_source(Folder::in_memory(), Runtime::TokioUring);
}

#[test]
fn file_sources_in_memory_conform_on_glommio() {
    conformance::check_source(Folder::in_memory(), Runtime::Glommio);
}

#[test]
fn file_destinations_on_disk_conform_on_tokio_uring() {
    conformance::check_destination(Folder::on_disk(), Runtime::TokioUring);
}

#[test]
fn file_destinations_on_disk_conform_on_glommio() {
    conformance::check_destination(Folder::on_disk(), Runtime::Glommio);
}

#[test]
fn file_destinations_in_memory_conform_on_tokio_uring() {
    conformance::check_destination(Folder::in_memory(), Runtime::TokioUring);
}

#[test]
fn file_destinations_in_memory_conform_on_glommio() {
    conformance::check_destination(Folder::in_memory(), Runtime::Glommio);
}
