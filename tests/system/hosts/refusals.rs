//! Whoever is turned away at an executor's door is seen by those who run the deployment.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use staccato_tests::{
    binary::command,
    deployment::Deployment,
    process::eventually,
    service::{PATIENCE, Service},
};

#[test]
fn a_foreign_certificate_is_refused_counted_and_shown() {
    let deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "5s"]);
    let h1 = deployment.join("h1", &[]);
    let address = deployment.executor("h1").unwrap()["address"].as_str().unwrap().to_owned();
    let table = || String::from_utf8(deployment.service.command(&["executors"]).stdout).unwrap();
    assert!(!table().contains("turned away"), "{}", table());
    // One that another deployment's authority vouches for, over TLS; and a reader that speaks no TLS.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (authority, cert, key) = (path("authority"), path("cert.pem"), path("key.pem"));
    for arguments in [&["init"][..], &["issue", "--host", "h2", "--cert", &cert, "--key", &key]] {
        let made = command().arg("pki").args(arguments).args(["--dir", &authority]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--insecure", "--no-alpn", "--max-time", "10", "--cert", &cert, "--key", &key]);
    let said = curl.arg(format!("https://{address}/")).output().unwrap();
    assert!(!said.status.success(), "{said:?}");
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(b"a greeting").unwrap();
    let _ = plain.read(&mut [0]);

    let refused = || deployment.executor("h1").filter(|one| one["refusals"]["not_allowed"] == 2);
    let document = eventually(PATIENCE, "both are counted", refused);
    assert_eq!(document["refusals"]["too_many"], 0);
    assert!(table().contains("has turned away 2 without a valid certificate or ticket"), "{}", table());
    let metrics = deployment.service.get("/metrics").body;
    let line = "staccato_executor_refusals_total{executor=\"h1\",why=\"not_allowed\"} 2";
    assert!(metrics.as_str().unwrap().contains(line), "{metrics}");
    let logged = h1.log().matches("refused a").count();
    assert_eq!(logged, 2, "each is logged once:\n{}", h1.log());
}

#[test]
fn where_nobody_could_join_nobody_is_invited() {
    let service = Service::start(&[]);
    let mut invite = command();
    invite.args(["executors", "invite", "h1", "--data-dir"]).arg(service.data());
    let refused = invite.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert!(said.contains("--listen https://") && said.contains("--tls-cert"), "{said}");
}
