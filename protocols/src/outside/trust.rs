//! Whose files are run.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file that a path leads to, if nobody but root and this process's user could have put it there or can change it; or
/// why it is not run, said behind its name.
pub fn trusted(path: &Path) -> Result<PathBuf, String> {
    let unreachable = |error: std::io::Error| format!("cannot be reached: {error}");
    let real = path.canonicalize().map_err(unreachable)?;
    let folder = real.parent().unwrap_or(Path::new("/"));
    for (what, place) in [("", real.as_path()), ("lies in a folder that ", folder)] {
        let found = fs::metadata(place).map_err(unreachable)?;
        if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
            return Err(format!(
                "{what}belongs to user {}, and not to root or the service's own user (chown)",
                found.uid()
            ));
        }
        if found.mode() & 0o022 != 0 {
            return Err(format!("{what}can be written by others ({:03o}; chmod go-w)", found.mode() & 0o777));
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_write_is_not_run_nor_what_lies_where_they_can() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&file, "").unwrap();
        mode(&file, 0o755);
        assert_eq!(trusted(&file), Ok(file.canonicalize().unwrap()));
        mode(&file, 0o775);
        assert!(trusted(&file).unwrap_err().starts_with("can be written by others (775"));
        mode(&file, 0o755);
        mode(folder.path(), 0o1777);
        assert!(trusted(&file).unwrap_err().starts_with("lies in a folder that can be written"));
        assert!(trusted(&folder.path().join("nothing")).unwrap_err().starts_with("cannot be reached"));
    }
}
