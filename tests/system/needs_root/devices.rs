//! Devices where an object should go.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;
use staccato_tests::service::Service;

#[test]
fn device_as_destination_is_refused_and_stays() {
    // The device of /dev/null, under a name that may be lost.
    let null = makedev(1, 3);
    let service = Service::start(&[]);
    let device = service.path("device");
    mknodat(CWD, &device, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, null).expect("root may make a device");
    service.write("s", b"content");
    for overwrite in ["never", "always"] {
        let options = json!({"retries": 0, "overwrite": overwrite});
        let id = service.submit(&service.file("s"), &service.file("device"), options);
        assert_eq!(service.failure(&id), "destination_not_regular", "overwrite {overwrite}");
    }
    let found = fs::symlink_metadata(&device).unwrap();
    assert!(found.file_type().is_char_device() && found.rdev() == null);
    assert_eq!(service.names(), ["device", "s"]);
}
