//! Roots: the folders whose files a process may touch.

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use percent_encoding::percent_decode_str;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{Code, Error, ObjectUrl};

/// What may be done under a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootAccess {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// A folder whose files may be touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
    access: RootAccess,
}

impl Root {
    /// A root at an absolute path without `.` and `..`.
    pub fn new(path: impl Into<PathBuf>, access: RootAccess) -> Result<Self, Error> {
        let path: PathBuf = path.into();
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return Err(Error::fatal(
                Code::InvalidOption,
                format!("{} cannot be a root; give an absolute path without . and ..", path.display()),
            ));
        }
        // Rebuilt from its parts, so that doubled and trailing slashes are gone.
        Ok(Self { path: path.components().collect(), access })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What may be done there.
    pub fn access(&self) -> RootAccess {
        self.access
    }
}

/// `PATH`, `PATH:rw` or `PATH:ro`; `PATH` alone means `rw`.
impl FromStr for Root {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.rsplit_once(':') {
            Some((path, "ro")) => Self::new(path, RootAccess::ReadOnly),
            Some((path, "rw")) => Self::new(path, RootAccess::ReadWrite),
            _ => Self::new(text, RootAccess::ReadWrite),
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            RootAccess::ReadOnly => "ro",
            RootAccess::ReadWrite => "rw",
        };
        write!(f, "{}:{access}", self.path.display())
    }
}

/// All roots of a process.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    roots: Vec<Root>,
}

impl Roots {
    /// These roots; where one lies in another, the longer path decides.
    pub fn new(mut roots: Vec<Root>) -> Self {
        roots.sort_by_key(|root| std::cmp::Reverse(root.path.as_os_str().len()));
        Self { roots }
    }

    /// The root that a URL lies in, by its spelling alone.
    pub fn root_of(&self, url: &ObjectUrl) -> Result<&Root, Error> {
        self.locate(url, false).map(|place| place.root)
    }

    /// The place a URL names, by its spelling alone.
    pub(super) fn locate(&self, url: &ObjectUrl, write: bool) -> Result<Place<'_>, Error> {
        let path = path_of(url)?;
        // Where they are is not for everybody who may ask.
        let outside = || {
            let why = "lies outside the roots of this service; its operator knows them (--root)";
            Error::fatal(Code::PathOutsideRoots, format!("{} {why}", path.display()))
        };
        let root = self.roots.iter().find(|root| path.starts_with(&root.path)).ok_or_else(outside)?;
        if write && root.access == RootAccess::ReadOnly {
            return Err(Error::fatal(
                Code::RootReadOnly,
                format!("{} lies in the read-only root {}", path.display(), root.path.display()),
            ));
        }
        let beneath = path.strip_prefix(&root.path).expect("found by this prefix").to_owned();
        let inner = self.roots.iter().filter(|inner| inner.path != root.path && inner.path.starts_with(&root.path));
        Ok(Place { root, inner: inner.map(|inner| inner.path.as_path()).collect(), beneath, path })
    }
}

/// The absolute path of a `file` URL.
fn path_of(url: &ObjectUrl) -> Result<PathBuf, Error> {
    let invalid = |why: &str| Error::fatal(Code::InvalidUrl, format!("{url}: {why}"));
    if url.url().host_str().is_some_and(|host| !host.is_empty()) {
        return Err(invalid("files on other hosts are not offered; write file:///PATH"));
    }
    // The parser makes `file:a/b` absolute, relative to nobody knows what.
    if !url.as_str().split_once(':').is_some_and(|(_, path)| path.starts_with('/')) {
        return Err(invalid("the path is relative, and this service has no current folder; write file:///PATH"));
    }
    if url.url().query().is_some() {
        return Err(invalid("a file URL has no query; percent-encode a ? that belongs to the name as %3F"));
    }
    let bytes: Vec<u8> = percent_decode_str(url.url().path()).collect();
    if bytes.contains(&0) {
        return Err(invalid("a file name cannot hold a NUL byte"));
    }
    if bytes.last() == Some(&b'/') {
        return Err(invalid("the path ends in a slash; name a file"));
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    // Percent-encoded slashes can hide dot segments from the check of the URL.
    if !path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))) || !path.is_absolute() {
        return Err(invalid("the path must be absolute and without . and .. segments"));
    }
    Ok(path)
}

/// A path within a root.
#[derive(Debug)]
pub(super) struct Place<'a> {
    root: &'a Root,
    /// Roots within this one, which have rules of their own.
    inner: Vec<&'a Path>,
    beneath: PathBuf,
    /// The absolute path, for people.
    pub path: PathBuf,
}

impl Place<'_> {
    /// Opens the file itself.
    pub fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_beneath(self.beneath.as_os_str(), flags)
    }

    /// Opens the folder it lies in.
    pub fn open_folder(&self) -> io::Result<OwnedFd> {
        let folder = self.beneath.parent().unwrap_or(Path::new(""));
        let folder = if folder.as_os_str().is_empty() { OsStr::new(".") } else { folder.as_os_str() };
        self.open_beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Its last component.
    pub fn name(&self) -> io::Result<&OsStr> {
        self.beneath.file_name().ok_or_else(|| io::Error::other("the path names a root, not a file in it"))
    }

    fn open_beneath(&self, relative: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        let folder =
            rustix::fs::open(&self.root.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // Everything is beneath "/", also the target of an absolute symbolic link.
        let beneath = if self.root.path == Path::new("/") { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        let resolve = beneath | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename elsewhere in the tree raced with the walk, and the kernel could not prove that it stayed
        // beneath the root (openat2(2)).
        const TRIES_MAX: usize = 64;
        for _ in 0..TRIES_MAX {
            match rustix::fs::openat2(&folder, relative.as_bytes(), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(rustix::io::Errno::AGAIN) => continue,
                Ok(opened) => return self.check_inner(opened),
                Err(error) => return Err(error.into()),
            }
        }
        Err(rustix::io::Errno::AGAIN.into())
    }

    /// A symbolic link may lead into a root within this one, which the spelling of the path did not name.
    fn check_inner(&self, opened: OwnedFd) -> io::Result<OwnedFd> {
        if self.inner.is_empty() {
            return Ok(opened);
        }
        let found = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
        let leads_inside = |inner: &&&Path| inner.canonicalize().is_ok_and(|inner| found.starts_with(inner));
        match self.inner.iter().find(leads_inside) {
            Some(_) => Err(rustix::io::Errno::XDEV.into()),
            None => Ok(opened),
        }
    }

    /// The error for a failed [`Place::open`] or [`Place::open_folder`]; `missing` is the code of "not there".
    pub fn open_error(&self, error: &io::Error, missing: Code, otherwise: Code) -> Error {
        let path = self.path.display();
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::XDEV) => Error::fatal(
                Code::PathOutsideRoots,
                format!("{path} leads out of the root {} through a symbolic link", self.root.path.display()),
            ),
            Some(rustix::io::Errno::NOENT) if self.beneath.as_os_str().is_empty() => {
                Error::fatal(Code::SourceNotRegular, format!("{path} is a folder, not a file"))
            }
            Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) if missing == Code::DestinationFolderMissing => {
                let folder = self.path.parent().unwrap_or(Path::new("/")).display();
                Error::fatal(missing, format!("there is no folder {folder} for {path}; make it first"))
            }
            Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                Error::fatal(missing, format!("{path} does not exist"))
            }
            Some(rustix::io::Errno::LOOP) => {
                Error::fatal(missing, format!("{path} leads through too many symbolic links"))
            }
            // Opening a socket file, or a device without a driver behind it.
            Some(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => {
                Error::fatal(Code::SourceNotRegular, format!("{path} is not a regular file"))
            }
            Some(rustix::io::Errno::NAMETOOLONG) => {
                Error::fatal(Code::InvalidUrl, format!("{path}: the name is too long"))
            }
            _ => Error::from_io(error, otherwise, format_args!("open {path}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Roots {
        Roots::new(vec!["/srv".parse().unwrap(), "/srv/fixed:ro".parse().unwrap(), "/data/".parse().unwrap()])
    }

    fn locate(url: &str, write: bool) -> Result<PathBuf, Code> {
        roots().locate(&ObjectUrl::parse(url).unwrap(), write).map(|place| place.path).map_err(|error| error.code)
    }

    #[test]
    fn the_longest_root_decides() {
        assert_eq!(locate("file:///srv/a", true), Ok("/srv/a".into()));
        assert_eq!(locate("file:///srv/fixed/a", false), Ok("/srv/fixed/a".into()));
        assert_eq!(locate("file:///srv/fixed/a", true), Err(Code::RootReadOnly));
        assert_eq!(locate("file:///data/a%20b%25", true), Ok("/data/a b%".into()));
        assert_eq!(locate("file:/data/a", true), Ok("/data/a".into()), "RFC 8089 allows one slash");
    }

    #[test]
    fn paths_outside_the_roots_are_refused_by_their_spelling() {
        for url in ["file:///etc/passwd", "file:///srvx/a", "file:///", "file:///srv%2f..%2fetc/x"] {
            assert!(locate(url, false).is_err(), "{url}");
        }
        assert_eq!(locate("file:///srvx/a", false), Err(Code::PathOutsideRoots));
    }

    #[test]
    fn urls_that_name_no_local_file_are_refused() {
        for url in [
            "file://host/srv/a",
            "file:///srv/a?b",
            "file:///srv/a/",
            "file:///srv/a%00",
            "file:srv/a",
            "FILE:srv/a",
            "file:",
        ] {
            assert_eq!(locate(url, false), Err(Code::InvalidUrl), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_called_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let roots = Roots::new(vec![Root::new(&path, RootAccess::ReadWrite).unwrap()]);
        let url = |path: &Path| ObjectUrl::parse(url::Url::from_file_path(path).unwrap().as_str()).unwrap();

        let place = roots.locate(&url(&path), false).unwrap();
        let error = place.open(OFlags::RDONLY).unwrap_err();
        let error = place.open_error(&error, Code::SourceMissing, Code::ReadFailed);
        assert_eq!(error.code, Code::SourceNotRegular);
        assert_eq!(error.message, format!("{} is a folder, not a file", path.display()));

        let place = roots.locate(&url(&path.join("nodir/x")), true).unwrap();
        let error = place.open_folder().unwrap_err();
        let error = place.open_error(&error, Code::DestinationFolderMissing, Code::WriteFailed);
        assert_eq!(error.code, Code::DestinationFolderMissing);
        assert!(error.message.starts_with(&format!("there is no folder {}", path.join("nodir").display())));
    }

    #[test]
    fn roots_are_absolute_and_plain() {
        for text in ["srv", "/srv/../etc", ""] {
            assert!(text.parse::<Root>().is_err(), "{text}");
        }
        assert_eq!("/srv//x/:ro".parse::<Root>().unwrap().to_string(), "/srv/x:ro");
    }
}
