//! File systems of a test's own: on tmpfs, or in a file behind a loop device. They need root, as CI has it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted file system, unmounted when the test ends.
pub struct Disk {
    mount: PathBuf,
    image: Option<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// A tmpfs of so many bytes.
    pub fn tmpfs(bytes: u64) -> Self {
        let (folder, mount) = mount_point();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&mount));
        Self { mount, image: None, _folder: folder }
    }

    /// A ramfs, which takes no O_DIRECT.
    pub fn ramfs() -> Self {
        let (folder, mount) = mount_point();
        run(Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&mount));
        Self { mount, image: None, _folder: folder }
    }

    /// An XFS of so many bytes (at least 300 MiB, says mkfs.xfs) that can share extents.
    pub fn xfs(bytes: u64) -> Self {
        Self::in_image(bytes, &["mkfs.xfs", "-q", "-m", "reflink=1"])
    }

    /// An ext4 of so many bytes.
    pub fn ext4(bytes: u64) -> Self {
        Self::in_image(bytes, &["mkfs.ext4", "-q", "-F"])
    }

    fn in_image(bytes: u64, make: &[&str]) -> Self {
        let (folder, mount) = mount_point();
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image can be made");
        run(Command::new(make[0]).args(&make[1..]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount));
        Self { mount, image: Some(image), _folder: folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Gives it another size (tmpfs only).
    pub fn resize(&self, bytes: u64) {
        run(Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(&self.mount));
    }

    /// Takes the medium away from under the file system: from now on everything that is not in memory gives EIO.
    pub fn break_medium(&self) {
        let image = self.image.as_ref().expect("only an image can be broken");
        fs::write("/proc/sys/vm/drop_caches", "3").expect("root may drop caches");
        File::options().write(true).open(image).and_then(|file| file.set_len(0)).expect("the image can be cut");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that was killed a moment ago may still hold it.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.mount).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.mount.display());
        }
    }
}

fn mount_point() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).expect("a folder can be made");
    (folder, mount)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"));
    assert!(output.status.success(), "{command:?} (it needs root): {}", String::from_utf8_lossy(&output.stderr));
}
