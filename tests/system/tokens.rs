//! A service that others than this host can reach: TLS, tokens, and whose roots are whose.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};
use staccato_tests::{
    binary::command,
    bytes::random,
    process::eventually,
    service::{PATIENCE, Service},
};

/// A service that speaks TLS on a port of its own, beside what every test has.
struct Public {
    service: Service,
    certificates: tempfile::TempDir,
    port: u16,
}

impl Public {
    fn start() -> Self {
        let certificates = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let public = |name: &str| certificates.path().join(name).display().to_string();
        renew(&certificates);
        let listen = format!("https://127.0.0.1:{port}");
        let bobs = certificates.path().join("bobs");
        fs::create_dir(&bobs).unwrap();
        let root = format!("{}:rw:bob", bobs.display());
        let arguments = ["--tls-cert", &public("cert.pem"), "--tls-key", &public("key.pem"), "--root", &root];
        let service = Service::start(&[&["--listen", &listen], &arguments[..]].concat());
        Self { service, certificates, port }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn ca(&self) -> PathBuf {
        self.certificates.path().join("ca.pem")
    }

    fn bobs(&self, name: &str) -> String {
        url::Url::from_file_path(self.certificates.path().join("bobs").join(name)).unwrap().into()
    }

    /// `staccato token ...`, as the user that the service runs as.
    fn token(&self, arguments: &[&str]) -> Output {
        command().arg("token").args(arguments).arg("--data-dir").arg(self.service.data()).output().unwrap()
    }

    fn make(&self, owner: &str, scope: &str) -> String {
        let made = self.token(&["create", "--owner", owner, "--scope", scope]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// A command of a user elsewhere, who has this token.
    fn command(&self, token: &str, arguments: &[&str]) -> Output {
        let mut command = command();
        command.args(arguments).args(["--json", "--server", &self.url()]).arg("--ca").arg(self.ca());
        command.env("STACCATO_TOKEN", token).output().unwrap()
    }

    fn curl(&self, token: Option<&str>, path: &str, more: &[&str]) -> (u16, Value) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}", "--cacert"]);
        command.arg(self.ca()).arg(format!("{}{path}", self.url())).args(more);
        if let Some(token) = token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let output = command.output().expect("curl is installed; tests/run does it");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or((&text, "0"));
        (status.parse().unwrap_or(0), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

/// A certificate for localhost, of a new authority, in the place of the one before.
fn renew(folder: &tempfile::TempDir) {
    let authority = tempfile::tempdir_in(folder.path()).unwrap();
    let pki = |arguments: &[&str]| {
        let output = command().arg("pki").args(arguments).arg("--dir").arg(authority.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let path = |name: &str| folder.path().join(name).display().to_string();
    pki(&["init"]);
    pki(&["issue", "--host", "localhost", "--cert", &path("cert.pem"), "--key", &path("key.pem")]);
    fs::copy(authority.path().join("ca.pem"), folder.path().join("ca.pem")).unwrap();
}

#[test]
fn a_user_elsewhere_moves_a_file_with_a_token_and_is_nobody_without_one() {
    let public = Public::start();
    let content = random(1, 3 << 20);
    fs::write(public.certificates.path().join("bobs/source"), &content).unwrap();
    let (status, refused) = public.curl(None, "/v1/transfers", &[]);
    assert_eq!((status, refused["code"].as_str()), (401, Some("unauthorized")));
    let token = public.make("bob", "submit");
    let body = json!({"source_url": public.bobs("source"), "destination_url": public.bobs("copy")}).to_string();
    let post = ["-H", "Content-Type: application/json", "-d", &body];
    let (status, made) = public.curl(Some(&token), "/v1/transfers", &post);
    assert_eq!((status, made["owner"].as_str()), (201, Some("bob")), "{made:#}");
    let waited = public.command(&token, &["wait", made["id"].as_str().unwrap()]);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    assert_eq!(fs::read(public.certificates.path().join("bobs/copy")).unwrap(), content);

    // The service's own root is bound to nobody: not for him, but for whoever runs the service.
    let theirs = json!({"source_url": "zero:///5", "destination_url": public.service.file("x")});
    let post = ["-H", "Content-Type: application/json", "-d", &theirs.to_string()];
    assert_eq!(public.curl(Some(&token), "/v1/transfers", &post).0, 403);
    let own = public.service.submit("zero:///5", &public.service.file("x"), json!({}));
    public.service.complete(&own);
    assert_eq!(public.curl(Some(&token), &format!("/v1/transfers/{own}"), &[]).0, 404, "somebody else's");
    let seen = public.command(&public.make("carol", "admin"), &["show", &own]);
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));

    let listed = String::from_utf8(public.token(&["list"]).stdout).unwrap();
    let id = listed.lines().find(|line| line.contains("bob")).unwrap().split_whitespace().next().unwrap();
    assert!(public.token(&["revoke", id]).status.success());
    let revoked = public.command(&token, &["list"]);
    assert_eq!(revoked.status.code(), Some(6), "{}", String::from_utf8_lossy(&revoked.stderr));
    let log = public.service.log();
    assert!(!log.contains(&token) && !log.contains("Bearer"), "{log}");
}

#[test]
fn the_certificate_is_renewed_while_the_service_runs() {
    let public = Public::start();
    let token = public.make("bob", "read");
    let old = fs::read(public.ca()).unwrap();
    assert_eq!(public.curl(Some(&token), "/v1/transfers", &[]).0, 200);
    renew(&public.certificates);
    assert_ne!(fs::read(public.ca()).unwrap(), old);
    eventually(PATIENCE, "the new certificate is shown", || {
        (public.curl(Some(&token), "/v1/transfers", &[]).0 == 200).then_some(())
    });
    // Whoever trusts somebody else does not talk to it.
    let stranger = tempfile::tempdir().unwrap();
    renew(&stranger);
    let mut command = command();
    command.args(["list", "--server", &public.url(), "--ca"]).arg(stranger.path().join("ca.pem"));
    let refused = command.env("STACCATO_TOKEN", &token).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(5) && said.contains("certificate"), "{said}");
}

#[test]
fn an_address_that_others_reach_is_refused_without_tls_and_bad_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        let mut command = command();
        command.args(["serve", "--executors", "none", "--data-dir"]).arg(folder.path().join("data")).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = serve(&["--listen", "0.0.0.0:0"]);
    assert!(code == Some(2) && said.contains("https://0.0.0.0:0"), "{said}");
    let (code, said) = serve(&["--listen", "https://0.0.0.0:0"]);
    assert!(code == Some(2) && said.contains("tls_cert and tls_key"), "{said}");
    let missing = folder.path().join("missing.pem").display().to_string();
    let (code, said) = serve(&["--listen", "https://127.0.0.1:0", "--tls-cert", &missing, "--tls-key", &missing]);
    assert!(code == Some(1) && said.contains("missing.pem") && said.contains("no such file"), "{said}");
}

#[test]
fn the_admin_socket_is_the_services_own() {
    let service = Service::start(&[]);
    let mode = fs::metadata(service.data().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut made = command();
    made.args(["token", "create", "--owner", "x", "--scope", "root", "--data-dir"]).arg(service.data());
    let output = made.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let mut nobody = command();
    nobody.args(["token", "list", "--data-dir"]).arg(service.root());
    assert_eq!(nobody.output().unwrap().status.code(), Some(5), "no service has its data there");
}
