//! A short path for a folder, however deep it lies: a service has sockets among its data, and a Unix socket's path has 107
//! bytes at most (unix(7)), while whoever measures a disk chooses the folder.

use std::{
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Another path of a folder, which goes when this is dropped.
#[derive(Debug)]
pub struct Alias {
    path: PathBuf,
    /// What leads to the folder's parent.
    _link: TempDir,
}

impl Alias {
    /// Of this folder, which need not be there yet.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
            return Err(io::Error::other(format!("{} is in no folder", folder.display())));
        };
        let link = TempDir::with_prefix("staccato-")?;
        let to_parent = link.path().join("in");
        symlink(parent, &to_parent)?;
        Ok(Self { path: to_parent.join(name), _link: link })
    }

    /// The short path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_lies_deep_has_a_short_path_too() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("deep/".repeat(30));
        std::fs::create_dir_all(&deep).unwrap();
        let alias = Alias::of(&deep.join("data")).unwrap();
        assert!(alias.path().as_os_str().len() < 80, "{alias:?}");
        std::fs::create_dir(alias.path()).unwrap();
        assert!(deep.join("data").is_dir());
        let link = alias.path().parent().unwrap().to_owned();
        drop(alias);
        assert!(!link.exists() && deep.join("data").is_dir());
        Alias::of(Path::new("/")).unwrap_err();
    }
}
