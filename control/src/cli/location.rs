//! What people write for a source or destination: a URL, or simply a path.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use url::Url;

use super::{Exit, Failure};

/// The URL that `text` stands for. What begins with a scheme and `:/` is a URL and stays as it is; anything else is a
/// path, relative to this process's folder. Dot-dot is resolved as the kernel would (through symbolic links), since the
/// service refuses it.
pub fn to_url(text: &str) -> Result<String, Failure> {
    if has_scheme(text) {
        return Ok(text.to_owned());
    }
    let refused = |why: String| Failure::new(Exit::Usage, format!("{text:?} is neither a URL nor a path: {why}"));
    if text.is_empty() {
        return Err(refused("it is empty".into()));
    }
    if text.ends_with('/') {
        return Err(Failure::new(Exit::Usage, format!("{text}: the path ends in a slash; name a file")));
    }
    let path = resolve(Path::new(text)).map_err(|error| refused(error.to_string()))?;
    let url = Url::from_file_path(&path).map_err(|()| refused("it cannot be written as a URL".into()))?;
    Ok(url.into())
}

fn has_scheme(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    rest.starts_with('/')
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// An absolute path without dots.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    if !path.components().any(|part| part == Component::ParentDir) {
        return Ok(path);
    }
    match (path.parent(), path.file_name()) {
        // The last part need not exist.
        (Some(folder), Some(name)) => Ok(folder.canonicalize()?.join(name)),
        _ => path.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_stay_as_they_are() {
        for url in ["file:///a/../b", "http://h/p?q", "zero:///10", "x-y+z.1://h"] {
            assert_eq!(to_url(url).unwrap(), url);
        }
    }

    #[test]
    fn paths_become_urls_that_name_the_same_file() {
        let here = std::env::current_dir().unwrap();
        for name in ["plain", "with space", "100%", "a:b", "q?x#y", "你好", "back\\slash", "%41", "[x]", "a'\"b"] {
            let url = to_url(name).unwrap();
            let parsed = staccato_protocols::ObjectUrl::parse(&url).unwrap();
            assert_eq!(parsed.url().to_file_path().unwrap(), here.join(name), "{url}");
        }
        assert_eq!(to_url("/a//b/./c").unwrap(), "file:///a/b/c");
        assert!(to_url("").is_err());
    }

    #[test]
    fn a_path_that_names_a_folder_is_refused() {
        for folder in ["dd/", "/srv/", "/"] {
            let failure = to_url(folder).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("the path ends in a slash; name a file"), "{}", failure.message);
        }
    }

    #[test]
    fn dot_dot_is_resolved_as_the_kernel_does() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/inner")).unwrap();
        std::os::unix::fs::symlink(root.join("real/inner"), root.join("link")).unwrap();
        let url = to_url(root.join("link/../new").to_str().unwrap()).unwrap();
        assert_eq!(url, format!("file://{}/real/new", root.display()));
        assert!(to_url("/does/not/exist/../x").is_err());
    }
}
