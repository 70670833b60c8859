//! Repairs where extents can be shared: XFS.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use serde_json::json;
use staccato_protocols::{
    ObjectUrl, Runtime,
    conformance::{self, DestinationHarness},
    contract::SharedProtocol,
    file::{FileProtocol, Root, RootAccess, Roots},
};
use staccato_tests::{
    bytes::{MIB, random},
    disk::Disk,
    service::{Service, names},
};

/// Only blocks that differ are stored again; the rest is what it was.
#[test]
fn a_repair_on_a_reflink_file_system_stores_only_what_differs() {
    let disk = Disk::xfs(512 * MIB as u64);
    let service = Service::start(&["--root", &format!("{}:rw", disk.path().display())]);
    let content = random(1, 64 * MIB + 5);
    // On another file system: it could be cloned otherwise.
    service.write("s", &content);
    let destination = format!("file://{}/d", disk.path().display());
    let place = disk.path().join("d");
    let free = || {
        rustix::fs::sync();
        rustix::fs::statvfs(disk.path()).unwrap().f_bfree * 4096
    };
    for (wrong, fetched) in [(vec![], 0), (vec![7], MIB), (vec![0, 33, 64], 2 * MIB + 5)] {
        let mut old = content.clone();
        wrong.iter().for_each(|block| old[block * MIB] ^= 1);
        fs::write(&place, &old).unwrap();
        // What is held keeps its extents: what is stored again shows.
        let held = fs::File::open(&place).unwrap();
        let before = free();
        let id = service.submit(&service.file("s"), &destination, json!({"overwrite": "repair"}));
        let document = service.complete(&id);
        assert_eq!(document["progress"], content.len());
        assert_eq!(document["bytes_fetched"], fetched, "{wrong:?}");
        assert!(fs::read(&place).unwrap() == content);
        let taken = before.saturating_sub(free());
        assert!(taken < 8 * MIB as u64, "{taken} bytes were stored again for {wrong:?}");
        let same = held.metadata().unwrap().ino() == fs::metadata(&place).unwrap().ino();
        assert_eq!(same, wrong.is_empty(), "what is right stays, what is not is replaced");
        assert_eq!(names(disk.path()), ["d"]);
    }
}

struct Folder {
    disk: Disk,
}

impl DestinationHarness for Folder {
    fn protocol(&self) -> SharedProtocol {
        let root = Root::new(self.disk.path(), RootAccess::ReadWrite).unwrap();
        Arc::new(FileProtocol::new(Roots::new(vec![root])).fence_wait(Duration::from_millis(100)))
    }

    fn url(&self, name: &str) -> ObjectUrl {
        let url = url::Url::from_file_path(self.disk.path().join(name)).unwrap();
        ObjectUrl::parse(url.as_str()).unwrap()
    }

    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        fs::read(path(url)).ok()
    }

    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        fs::write(path(url), bytes).unwrap();
    }

    fn left_overs(&self) -> usize {
        names(self.disk.path()).iter().filter(|name| name.contains(".staccato-")).count()
    }
}

fn path(url: &ObjectUrl) -> PathBuf {
    url.url().to_file_path().unwrap()
}

#[test]
fn destinations_on_a_reflink_file_system_conform() {
    for runtime in [Runtime::TokioUring, Runtime::Glommio] {
        conformance::check_destination(Rc::new(Folder { disk: Disk::xfs(512 * MIB as u64) }), runtime);
    }
}
