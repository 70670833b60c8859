use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use staccato_protocols::Disposition;

use super::*;
use crate::model::credential::Kept;

const TOML: &str = "schemes = [\"https\"]\nurls = [\"https://h/\"]\n[options]\n\"header.Authorization\" = \"hush\"\n";

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

/// A folder of the operator's, and what is found there.
fn folder() -> (tempfile::TempDir, ConfiguredCredentials) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let configured = ConfiguredCredentials::new(Some(folder.path().to_owned()), Vec::new());
    configured.check().unwrap();
    (folder, configured)
}

#[tokio::test]
async fn files_are_read_anew_and_belong_to_whom_they_say() {
    let (folder, configured) = folder();
    assert_eq!(configured.find(&name("web"), "alice").await, Ok(None));
    write(folder.path(), "web.toml", TOML);
    write(folder.path(), "bobs.json", r#"{"schemes": ["https"], "owner": "bob", "options": {"ca": "x"}}"#);
    write(folder.path(), "notes.txt", "no credential");
    let web = configured.find(&name("web"), "alice").await.unwrap().unwrap();
    assert_eq!((web.kept, web.definition.options["header.Authorization"].as_str()), (Kept::File, "hush"));
    assert_eq!(configured.find(&name("bobs"), "alice").await, Ok(None));
    assert!(configured.find(&name("bobs"), "bob").await.unwrap().is_some());
    write(folder.path(), "web.toml", &TOML.replace("hush", "changed"));
    let web = configured.find(&name("web"), "alice").await.unwrap().unwrap();
    assert_eq!(web.definition.options["header.Authorization"], "changed");
    let names: Vec<_> = configured.all().await.iter().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["bobs", "web"]);
}

#[tokio::test]
async fn what_others_may_read_is_refused_and_no_complaint_repeats_a_value() {
    let (folder, configured) = folder();
    for (text, says) in [
        (TOML.replace("[options]", "[options"), "line 3 is not TOML"),
        (TOML.replace("\"hush\"", "\"hush"), "line 4 is not TOML"),
        (TOML.replace("\"hush\"", "[\"hush\"]"), "the value must be a string"),
        (format!("owner = [\"hush\"]\n{TOML}"), "owner must be a string"),
        (format!("hosts = \"hush\"\n{TOML}"), "unknown field hosts"),
        (format!("{TOML}# {}", "x".repeat(70_000)), "more than 65536 bytes"),
    ] {
        write(folder.path(), "web.toml", &text);
        let unusable = configured.find(&name("web"), "alice").await.expect_err(says);
        let message = unusable.error.message;
        assert!(message.contains(says) && message.contains("web.toml") && !message.contains("hush"), "{message}");
        assert_ne!(unusable.error.disposition, Disposition::Fatal, "it may be being written");
        assert!(configured.all().await.is_empty());
    }
    let path = write(folder.path(), "web.toml", TOML);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let unusable = configured.find(&name("web"), "alice").await.unwrap_err();
        assert!(unusable.error.message.contains("chmod 600"), "{}", unusable.error.message);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for mode in [0o750, 0o705] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(configured.check().unwrap_err().to_string().contains("chmod 700"));
        assert!(configured.find(&name("web"), "alice").await.is_err());
    }
}

#[tokio::test]
async fn a_folder_in_a_files_place_and_a_pipe_hold_nobody_up() {
    let (folder, configured) = folder();
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    fs::set_permissions(folder.path().join("folder.toml"), fs::Permissions::from_mode(0o700)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("pipe.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for one in ["folder", "pipe"] {
        let unusable = configured.find(&name(one), "alice").await.unwrap_err();
        assert!(unusable.error.message.contains("it is not a file"), "{}", unusable.error.message);
    }
}

#[test]
fn variables_are_read_only_for_what_the_operator_names() {
    let variable = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
        "AWS_REGION" => Some(String::new()),
        "OS_PASSWORD" => Some("other".to_owned()),
        _ => None,
    };
    let named: EnvironmentCredential = "backup=s3 alice s3://backups".parse().unwrap();
    assert_eq!(named.to_string(), "backup=s3 alice s3://backups");
    let read = named.read(variable, |_| true).unwrap();
    assert!(read.is_for("alice") && !read.is_for("bob"));
    let options: Vec<_> = read.definition.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(options, ["access_key=id", "secret_key=hush"], "what is empty is not set");
    assert!(!format!("{read:?}").contains("hush"));
    let web: EnvironmentCredential = "web=http http://h/".parse().unwrap();
    let web = web.read(|_| Some("hush".into()), |_| true).unwrap();
    assert_eq!(web.definition.schemes, ["http"], "with URLs, it is for theirs and no other scheme");
    let unset = "web=http".parse::<EnvironmentCredential>().unwrap().read(variable, |_| true).unwrap_err();
    assert!(unset.to_string().contains("HTTP_AUTHORIZATION"), "{unset}");
    for text in ["", "a", "a=", "a=aws", "/=s3", "a=s3 b c", "a=s3 https://h", "a=http https://", "a=s3 b/c"] {
        assert!(text.parse::<EnvironmentCredential>().is_err(), "{text}");
    }
}
