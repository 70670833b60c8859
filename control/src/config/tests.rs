use std::{io::Write as _, path::Path};

use super::*;

#[test]
fn defaults_hold_and_say_that_they_are_defaults() {
    let config = load(Flags::default(), &[]).unwrap();
    assert_eq!(config.listen[0].to_string(), "127.0.0.1:5309");
    assert_eq!(config.data_dir, Path::new("/home/u/.local/state/staccato"));
    assert_eq!((config.slots, config.memory_bytes, config.chunk_bytes), (4, 256 << 20, 4 << 20));
    assert!(config.roots.is_empty() && config.allow_http && config.socket.is_none());
    assert!(config.shown().iter().all(|shown| shown.origin == "default"));
}

#[test]
fn flags_outweigh_environment_and_environment_outweighs_the_file() {
    let file = file("slots = 1\nlanes = 1\nmemory = \"64M\"\nroots = [\"/a:ro\", \"/b\"]\nallow_http = false\n");
    let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() }.with("slots", "3");
    let config = load(flags, &[("STACCATO_SLOTS", "2"), ("STACCATO_LANES", "2")]).unwrap();
    assert_eq!((config.slots, config.lanes, config.memory_bytes, config.allow_http), (3, 2, 64 << 20, false));
    let roots: Vec<_> = config.roots.iter().map(ToString::to_string).collect();
    assert_eq!(roots, ["/a:ro", "/b:rw"]);
    let origin = |key| config.shown().into_iter().find(|shown| shown.key == key).unwrap().origin;
    assert_eq!(origin("slots"), "flag --slots");
    assert_eq!(origin("lanes"), "environment STACCATO_LANES");
    assert_eq!(origin("memory"), format!("file {}", file.path().display()));
    assert_eq!(origin("lease"), "default");
}

#[test]
fn lists_in_the_environment_are_split_at_commas() {
    let config = load(Flags::default(), &[("STACCATO_ROOTS", "/a:ro, /b:rw,")]).unwrap();
    assert_eq!(config.roots.len(), 2);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let file = file("slot = 1\n");
    let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() };
    let sentence = load(flags, &[]).unwrap_err().to_string();
    assert!(sentence.contains("unknown key slot; did you mean slots?"), "{sentence}");

    let sentence = load(Flags::default(), &[("STACCATO_DATADIR", "/x")]).unwrap_err().to_string();
    assert!(sentence.contains("STACCATO_DATADIR; did you mean STACCATO_DATA_DIR?"), "{sentence}");
    let sentence = Environment::of([("STACCATO_SERVRE", "http://x")]).check().unwrap_err().to_string();
    assert!(sentence.contains("STACCATO_SERVRE; did you mean STACCATO_SERVER?"), "{sentence}");
    let sentence = Environment::of([("STACCATO_QQQ", "x")]).check().unwrap_err().to_string();
    assert!(!sentence.contains("did you mean"), "{sentence}");
}

#[test]
fn a_misspelt_level_names_the_nearest_one() {
    let sentence = load(Flags::default().with("log", "wran"), &[]).unwrap_err().to_string();
    assert!(sentence.contains("\"wran\" is no level; did you mean warn?"), "{sentence}");
    for filter in ["off", "WARN", "warn,staccato_control=debug", "staccato_control=trace, info"] {
        assert!(load(Flags::default().with("log", filter), &[]).is_ok(), "{filter}");
    }
}

#[test]
fn a_root_that_is_no_folder_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let check = |name: &str| {
        let root = folder.path().join(name).display().to_string();
        load(Flags::default().with("root", root), &[]).unwrap().check_roots().map_err(|error| error.to_string())
    };
    assert_eq!(check(""), Ok(()));
    for (name, why) in [("missing", "no such folder"), ("file", "not a folder"), ("images:rx", "only :ro or :rw")] {
        let sentence = check(name).unwrap_err();
        assert!(sentence.contains(name) && sentence.contains(why), "{sentence}");
    }
}

#[test]
fn variables_of_the_clients_are_no_settings_and_no_other_is_let_through() {
    assert!(load(Flags::default(), &[("STACCATO_SERVER", "http://x")]).is_ok());
    assert!(load(Flags::default(), &[("STACCATO_TEST_SEED", "1")]).is_err());
}

#[test]
fn a_bad_value_is_refused_with_its_key_and_origin() {
    for (key, value) in [
        ("listen", "0.0.0.0:1"),
        ("listen", "here"),
        ("slots", "0"),
        ("slots", "many"),
        ("lanes", "65"),
        ("memory", "1.5G"),
        ("memory", "1M"),
        ("chunk_size", "3"),
        ("chunk_size", "128M"),
        ("executors", "remote"),
        ("lane", "fast"),
        ("allow_http", "yes"),
        ("heartbeat", "5"),
        ("lease", "1s"),
        ("roots", "relative"),
        ("roots", "/a/../b"),
        ("label", "gpu"),
        ("label", "gpu=a b"),
        ("label", "gpu=yes,gpu=no"),
        ("rack", "a=b"),
        ("log", "staccato=loud"),
        ("log", "wran"),
        ("log", "info,staccato_control"),
    ] {
        let variable = format!("STACCATO_{}", key.to_uppercase());
        let sentence = load(Flags::default(), &[(&variable, value)]).expect_err(key).to_string();
        assert!(sentence.contains(key), "{key}={value}: {sentence}");
    }
    let sentence = load(Flags::default(), &[("STACCATO_SLOTS", "x")]).unwrap_err().to_string();
    assert!(sentence.contains("environment STACCATO_SLOTS"), "{sentence}");
}

#[test]
fn labels_and_rack_are_handed_on_as_they_were_given() {
    let config = load(Flags::default(), &[("STACCATO_LABEL", "kind=b,gpu=yes"), ("STACCATO_RACK", "r1")]).unwrap();
    let labels: Vec<_> = config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!((labels, config.rack.as_ref().unwrap().as_str()), (vec![("gpu", "yes"), ("kind", "b")], "r1"));
    let arguments = config.as_arguments();
    for argument in ["--label=gpu=yes", "--label=kind=b", "--rack=r1"] {
        assert!(arguments.contains(&argument.into()), "{argument}");
    }
}

#[test]
fn a_file_that_is_no_toml_or_holds_a_wrong_type_is_refused() {
    for text in ["slots = ", "slots = 1.5", "slots = [1]", "[slots]\na = 1", "roots = [1.5]", "slots = 1\nslots = 2"] {
        let file = file(text);
        let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() };
        let sentence = load(flags, &[]).expect_err(text).to_string();
        assert!(sentence.contains(&file.path().display().to_string()), "{sentence}");
    }
    let flags = Flags { file: Some("/does/not/exist".into()), ..Flags::default() };
    assert!(load(flags, &[]).unwrap_err().to_string().contains("/does/not/exist"));
}

#[test]
fn nowhere_to_listen_is_refused() {
    assert!(load(Flags::default(), &[("STACCATO_LISTEN", "none")]).is_err());
    assert!(load(Flags::default(), &[("STACCATO_LISTEN", "none"), ("STACCATO_SOCKET", "/run/s")]).is_ok());
}

#[test]
fn a_configuration_can_be_handed_on_as_flags() {
    let given = Flags::default().with("root", "/a,b:ro").with("root", "/c").with("socket", "/s").with("memory", "300M");
    let given = given
        .with("listen", "https://0.0.0.0:1")
        .with("tls-cert", "/t")
        .with("tls-key", "/k")
        .with("root", "/d:ro:bob");
    let config = load(given, &[]).unwrap();
    let command = <Flags as clap::Args>::augment_args(clap::Command::new("child").no_binary_name(true));
    let matches = command.try_get_matches_from(config.as_arguments()).unwrap();
    let flags = <Flags as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
    let again = load(flags, &[("STACCATO_SLOTS", "9")]).unwrap();
    assert_eq!(again, Config { origins: again.origins.clone(), ..config });
}

#[test]
fn what_belongs_together_is_given_together_and_once() {
    for flags in [
        Flags::default().with("tls-cert", "/c"),
        Flags::default().with("tls-key", "/k"),
        Flags::default().with("listen", "https://127.0.0.1:1"),
        Flags::default().with("root", "/a:ro:bob").with("root", "/a/:rw:alice"),
    ] {
        assert!(load(flags.clone(), &[]).is_err(), "{flags:?}");
    }
    let tls = Flags::default().with("tls-cert", "/c").with("tls-key", "/k");
    let networks = |flags| {
        let config = load(flags, &[]).unwrap();
        config.shown().into_iter().find(|shown| shown.key == "allow_networks").unwrap().value
    };
    assert_eq!((networks(Flags::default()), networks(tls.clone())), ("any".into(), "none".into()));
    assert_eq!(networks(tls.with("allow-network", "127.0.0.0/8").with("allow-network", "::1")), "127.0.0.0/8, ::1/128");
}

#[test]
fn without_roots_there_are_no_files() {
    let schemes = |config: &Config| config.registry().modules().map(|(scheme, _)| scheme).collect::<Vec<_>>();
    assert!(!schemes(&load(Flags::default(), &[]).unwrap()).contains(&"file"));
    assert!(schemes(&load(Flags::default().with("root", "/a"), &[]).unwrap()).contains(&"file"));
}

#[test]
fn plain_http_can_be_switched_off_and_https_stays() {
    let schemes = |allowed: &str| {
        let config = load(Flags::default().with("allow-http", allowed), &[]).unwrap();
        config.registry().modules().map(|(scheme, _)| scheme).collect::<Vec<_>>()
    };
    assert_eq!(schemes("true"), ["glance", "glance+https", "http", "https", "null", "s3", "swift", "zero"]);
    assert_eq!(schemes("false"), ["glance+https", "https", "null", "s3", "swift", "zero"]);
}

#[test]
fn where_others_connect_must_be_somewhere_they_can() {
    let refused = |flags: &[(&str, &str)]| {
        let flags = flags.iter().fold(Flags::default(), |flags, (flag, value)| flags.with(flag, *value));
        load(flags, &[]).unwrap().check_peers().map_err(|error| error.to_string())
    };
    let (cert, key) = (("tls-cert", "/c.pem"), ("tls-key", "/k.pem"));
    assert_eq!(refused(&[]), Ok(()));
    assert_eq!(refused(&[cert, key, ("peer-listen", "192.0.2.1:5310")]), Ok(()));
    for (flags, said) in [
        (vec![("peer-listen", "192.0.2.1:5310")], "tls_cert"),
        (vec![cert, key, ("peer-listen", "0.0.0.0:5310")], "by which they reach"),
        (vec![cert, key, ("peer-listen", "[::]:5310")], "by which they reach"),
    ] {
        let why = refused(&flags).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn keystone_vouches_where_it_is_named_only() {
    let with = |flags: &[(&str, &str)]| {
        let flags = flags.iter().fold(Flags::default(), |flags, (flag, value)| flags.with(flag, *value));
        load(flags, &[])
    };
    let url = ("keystone-url", "https://keystone.example:5000");
    assert!(with(&[]).unwrap().keystone_gate().unwrap().is_none());
    assert!(with(&[("auth", "keystone"), url]).unwrap().keystone_gate().unwrap().is_some());
    for flags in [
        &[("auth", "keystone")][..],
        &[url],
        &[("auth", "ldap")],
        &[("auth", "keystone"), ("keystone-url", "keystone:5000")],
        &[("auth", "keystone"), ("keystone-url", "https://u:p@keystone/")],
        &[("auth", "keystone"), url, ("keystone-cache", "2h")],
        &[("auth", "keystone"), url, ("keystone-admin-role", "")],
    ] {
        assert!(with(flags).is_err(), "{flags:?}");
    }
    let missing = with(&[("auth", "keystone"), url, ("keystone-ca", "/nowhere/ca.pem")]).unwrap();
    assert!(missing.keystone_gate().is_err());
}

#[test]
fn the_readme_holds_the_reference_of_this_table() {
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&reference_table()), "control/README.md must hold this table:\n{}", reference_table());
}

fn load(flags: Flags, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut all = vec![("HOME", "/home/u")];
    all.extend(variables);
    Config::load(&flags, &Environment::of(all))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}
