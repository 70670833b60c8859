//! Which executables are found, and which of them are taken.

use super::*;
use crate::Registry;

fn place(folder: &Path, scheme: &str, mode: u32, script: &str) {
    let program = folder.join(format!("staccato-protocol-{scheme}"));
    fs::write(&program, format!("{HEAD}{script}")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn plug_ins_are_found_by_their_names_and_refused_where_they_cannot_be_trusted_or_used() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let says = |name: &str| format!("say({{**hello, 'name': '{name}'}})\nasked()");
    place(first.path(), "good", 0o755, &says("good"));
    place(second.path(), "good", 0o755, "sys.exit(1)");
    place(first.path(), "open", 0o777, &says("open"));
    place(first.path(), "other", 0o755, &says("another"));
    place(first.path(), "zero", 0o755, &says("zero"));
    place(second.path(), "plain", 0o644, &says("plain"));
    place(second.path(), "settings", 0o755, &says("settings"));
    fs::write(second.path().join("staccato-protocol-settings.toml"), "key = 's3cret'").unwrap();
    fs::write(second.path().join("README"), "").unwrap();
    let folders = [first.path().to_owned(), second.path().to_owned(), "/nothing/there".into()];
    let found = find::all(&folders, None, Patience::default());
    let registry = Registry::new().with(crate::synthetic::ZeroProtocol).with_found(found);
    let schemes: Vec<_> = registry.modules().map(|(scheme, _)| scheme).collect();
    assert_eq!(schemes, ["good", "zero"], "of two the first counts");
    assert!(registry.is_from_outside("good") && !registry.is_from_outside("zero"));
    let broken: BTreeMap<_, _> = registry.broken().collect();
    for (scheme, why) in [
        ("open", "can be written by others (777"),
        ("other", "says that it is \"another\""),
        ("plain", "is not executable (chmod +x)"),
        ("settings", "staccato-protocol-settings.toml beside it, which is not understood"),
        ("zero", "adds a scheme that is taken"),
    ] {
        assert!(broken[scheme].contains(why), "{scheme}: {}", broken[scheme]);
        assert!(!broken[scheme].contains("s3cret"));
    }
    assert_eq!(broken.len(), 5);
    let url = ObjectUrl::parse("plain:///x").unwrap();
    let error = registry.source(&url, &Options::new()).err().unwrap();
    assert!(error.message.contains("cannot be used: it cannot be started"), "{error}");
}

#[test]
fn what_the_file_beside_it_says_is_told_at_its_start() {
    let script = Script::running("it = asked(); open(trace, 'w').write(json.dumps(start['settings'])); opened(it)");
    fs::write(script.folder.path().join("staccato-protocol-test.toml"), "[settings]\nfolder = '/srv'").unwrap();
    let found = find::all(&[script.folder.path().to_owned()], None, Patience::default());
    let module = found.into_iter().next().unwrap().module.unwrap();
    with(module, async |module, lane| drop(open(&module, &lane).await.unwrap()));
    assert_eq!(fs::read_to_string(script.trace()).unwrap(), r#"{"folder": "/srv"}"#);
}
