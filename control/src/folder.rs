//! Folders that are still there after a power cut.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

/// Makes a folder and whatever is missing above it, for this user only (mode 0700). Their names are durable when this
/// returns: until they are, nothing inside is, however well it was synced.
pub fn create(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|folder| is_missing(folder)).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for folder in missing {
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn is_missing(folder: &Path) -> bool {
    // A relative path ends in an empty one, which stands for the current folder.
    !folder.as_os_str().is_empty() && !folder.exists()
}
