use clap::{CommandFactory, Parser as _};
use serde_json::json;

use super::{movement::Movement, protocol_options::ProtocolOptions, submit::TransferOptions, *};

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_manual_is_understood() {
    for line in [
        "serve --listen 127.0.0.1:0 --socket /s --data-dir /d --root /a:ro --root /b --slots 2 --config /c",
        "serve --executors none --lane glommio --lanes 1 --memory 64M --chunk-size 1M --log debug --allow-http false",
        "submit a b",
        "submit a b --overwrite=repair --wait",
        "submit a b --wait --option priority=9 --option overwrite=always --source-option header.x=y",
        "submit a b --source-option-file token=- --destination-option-file secret_key=/s --destination-option region=x",
        "copy a b --source-option-file token=- --destination-option-file secret_key=/s --destination-option region=x",
        "submit a b --checksum crc32:00000000 --overwrite --priority 1 --rate-limit 5M --retries 0 --chunk-size 1M",
        "submit a b --json --server unix:/s --idempotency-key k",
        "list",
        "list --state running --limit 5 --json",
        "show x",
        "watch x",
        "wait x --timeout 5s",
        "distribute a --to file://{host}/x --hosts h1,rack=r,label.a=b,25% --watch --overwrite --retries 1",
        "distribute a --to file://{host}/x --hosts 100% --preheat --max-failures 1 --deadline 2h --source-budget 1 --name n",
        "distributions --json",
        "distributions x --state error --add h2 --remove h1",
        "executor --join https://h --label a=b --label c=d --rack r1",
        "cancel x",
        "pause x",
        "resume x",
        "delete x --json",
        "config --slots 3",
        "config --credentials /c --credential-env backup=s3",
        "credential set a --scheme s3 --scheme https --url https://h/ --option access_key=x --option-file secret_key=-",
        "credential list --json",
        "credential show a --owner bob",
        "credential delete a --everybody",
        "copy a b --overwrite=repair",
        "copy a b --overwrite --lane glommio --memory 64M --checksum crc32:00000000 --rate-limit 1M --json",
        "copy a b --log info",
        "copy a b --connections 4 --chunk-size 1M --source-option header.x=y",
        "submit a b --connections 4 --transport quic --window 64M --destination-option mode=0600",
        "--server http://localhost:1 --json list",
    ] {
        let words = std::iter::once("staccato").chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for line in [
        "",
        "serves",
        "submit a",
        "submit a b c",
        "submit a b --option x",
        "submit a b --connections 0",
        "copy a b --connections many",
        "list --state nowhere",
        "show",
        "distribute a b --hosts h1",
        "distribute a --to b",
        "distribute a --to b --hosts 0%",
        "distribute a --to b --hosts h1 --deadline soon",
        "distributions --state error",
        "list --server example.org",
        "list --server https://h/v1",
        "token create --owner a --scope root",
        "token create --scope read",
        "credential set a",
        "credential set a/b --scheme s3",
        "credential delete a --owner b --everybody",
        "wait x --timeout soon",
        "config --slot 1",
    ] {
        let words = std::iter::once("staccato").chain(line.split_whitespace());
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn options_become_the_fields_of_a_request() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = TransferOptions {
        options: vec![
            pair("priority", "9"),
            pair("rate_limit", "5M"),
            pair("connections", "3"),
            pair("end_offset", "-1"),
            pair("source_options.header.x", "a=b"),
        ],
        movement: Movement {
            overwrite: Some("always".into()),
            options: ProtocolOptions { destination_options: vec![pair("mode", "0600")], ..ProtocolOptions::default() },
            ..Movement::default()
        },
        ..TransferOptions::default()
    };
    let expected = json!({
        "source_url": "zero:///10", "destination_url": "file:///b", "overwrite": "always", "priority": 9,
        "rate_limit": 5 << 20, "connections": 3, "end_offset": -1, "source_options": {"header.x": "a=b"},
        "destination_options": {"mode": "0600"},
    });
    assert_eq!(options.body("zero:///10", "/b").unwrap(), expected);
}

#[test]
fn wrong_options_are_refused_before_anything_is_sent() {
    for (name, value) in
        [("prioritty", "1"), ("priority", "x"), ("rate_limit", "fast"), ("checksum", "sha1:00"), ("end_offset", "-2")]
    {
        let options = TransferOptions { options: vec![(name.into(), value.into())], ..TransferOptions::default() };
        let failure = options.body("/a", "/b").expect_err(name);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains(name), "{}", failure.message);
    }
    let options = TransferOptions { options: vec![("prioritty".into(), "1".into())], ..TransferOptions::default() };
    assert!(options.body("/a", "/b").unwrap_err().message.contains("did you mean priority?"));
}

#[test]
fn the_readme_lists_every_exit_code() {
    let readme = include_str!("../../README.md");
    for code in 0..=7 {
        assert!(readme.contains(&format!("| {code} |")), "exit code {code}");
    }
}
