//! Any pair of places works, whoever has to run it.

use std::fs;

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    deployment::{Deployment, on},
};

#[test]
fn any_pair_of_hosts_works() {
    let deployment = Deployment::start(&[]);
    let (h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let service = &deployment.service;
    let bytes = random(1, 9 * MIB + 123);
    fs::write(h1.path("image"), &bytes).unwrap();
    service.write("local", &bytes);
    let head = |name: &str| on("head", &service.path(name));

    // Destination's executor pulls.
    let to_h2 = service.submit(&h1.file("image"), &h2.file("copy"), json!({"checksum": sha256(&bytes)}));
    let document = service.complete(&to_h2);
    assert_eq!(document["bytes_fetched"], bytes.len());
    assert!(fs::read(h2.path("copy")).unwrap() == bytes);
    // To the service's own host, and from it; both spellings.
    service.complete(&service.submit(&h2.file("copy"), &head("a"), json!({})));
    service.complete(&service.submit(&h2.file("copy"), &service.file("b"), json!({})));
    service.complete(&service.submit(&head("local"), &h1.file("c"), json!({})));
    service.complete(&service.submit(&service.file("local"), &h1.file("d"), json!({})));
    for path in [service.path("a"), service.path("b"), h1.path("c"), h1.path("d")] {
        assert!(fs::read(path).unwrap() == bytes);
    }
    // Within one host, from nowhere to a host, and from a host to nowhere, also to that of another.
    service.complete(&service.submit(&h1.file("image"), &h1.file("e"), json!({})));
    assert!(fs::read(h1.path("e")).unwrap() == bytes);
    service.complete(&service.submit("zero:///3000000", &h2.file("zeros"), json!({})));
    assert_eq!(fs::metadata(h2.path("zeros")).unwrap().len(), 3_000_000);
    service.complete(&service.submit(&h1.file("image"), "null:///", json!({})));
    let document = service.complete(&service.submit(&h1.file("image"), "null://h2/", json!({})));
    assert_eq!(document["crc32"], format!("{:08x}", crc32fast::hash(&bytes)));
    service.complete(&service.submit("zero://h1/5000000?seed=7", "null://h2/", json!({})));
    // A part.
    let part = service.submit(&h1.file("image"), &h2.file("part"), json!({"start_offset": 5, "end_offset": 3_000_005}));
    service.complete(&part);
    assert!(fs::read(h2.path("part")).unwrap() == bytes[5..3_000_005]);
    // The whole way through is seen, and who ran it.
    let events = document["events"].to_string();
    assert!(events.contains("attempt 1 by executor"), "{events}");
}

#[test]
fn many_small_objects_arrive() {
    let deployment = Deployment::start(&[]);
    let (h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let service = &deployment.service;
    let bytes = random(2, 64 << 10);
    let count = 200;
    let body: Vec<_> = (0..count)
        .map(|number| {
            fs::write(h1.path(&number.to_string()), &bytes[number..]).unwrap();
            let (from, to) = (h1.file(&number.to_string()), h2.file(&format!("c{number}")));
            json!({"source_url": from, "destination_url": to})
        })
        .collect();
    let answer = service.post("/v1/transfers", &json!(body));
    assert_eq!(answer.status, 207);
    for (number, one) in answer.body.as_array().unwrap().iter().enumerate() {
        service.complete(one["transfer"]["id"].as_str().unwrap());
        assert!(fs::read(h2.path(&format!("c{number}"))).unwrap() == bytes[number..]);
    }
}

#[test]
fn what_is_wrong_with_a_host_is_said() {
    let deployment = Deployment::start(&[]);
    let h1 = deployment.join("h1", &["--listen", "none"]);
    let service = &deployment.service;
    let refused = |source: &str, destination: &str| {
        let answer = service.post("/v1/transfers", &json!({"source_url": source, "destination_url": destination}));
        assert_eq!(answer.status, 400, "{:?}", answer.body);
        (answer.code().to_owned(), answer.body["field"].as_str().unwrap_or_default().to_owned())
    };
    let is = |code: &str, field: &str| (code.to_owned(), field.to_owned());
    assert_eq!(refused("file://nowhere/x", &h1.file("x")), is("unknown_host", "source_url"));
    assert_eq!(refused("zero:///1", "null://nowhere/"), is("unknown_host", "destination_url"));
    assert_eq!(refused("zero:///1", "file://h1/etc/x"), is("path_outside_roots", "destination_url"));
    assert_eq!(refused(&h1.file("x"), &service.file("x")), is("host_unreachable", "source_url"));
    // What the source's own executor can do needs no others.
    fs::write(h1.path("x"), b"bytes").unwrap();
    service.complete(&service.submit(&h1.file("x"), "null:///", json!({})));
    // The same file under two names is one.
    let own = on("head", &service.path("x"));
    assert_eq!(refused(&own, &service.file("x")), is("invalid_field", "destination_url"));

    // From elsewhere, a file must say where it is.
    let token = deployment.admin(&["token", "create", "--owner", "alice", "--scope", "admin"]);
    let token = String::from_utf8(token.stdout).unwrap();
    let submit = |source: &str| {
        let mut command = staccato_tests::binary::command();
        command.args(["submit", source, "null:///", "--json", "--server", &deployment.url()]);
        command.arg("--ca").arg(deployment.ca()).env("STACCATO_TOKEN", token.trim());
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let said = submit(&service.file("x"));
    assert!(said.contains("ambiguous_host") && said.contains("file://"), "{said}");
    let said = submit(&h1.file("x"));
    assert!(said.contains("\"state\""), "{said}");
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", staccato_tests::bytes::sha256(bytes))
}
