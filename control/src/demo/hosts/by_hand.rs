//! What somebody would type to do the same.

use super::{deployment::Deployment, moves::Move};

/// Where people have their files by hand.
const FOLDER: &str = "/tmp/staccato-by-hand";

/// Two hosts on loopback, made from nothing.
pub(super) fn on_loopback(program: &str) -> Vec<String> {
    let executor = |name: &str, port: u16| {
        let pid = name.to_uppercase();
        format!(
            "{program} executor --join https://127.0.0.1:5308 --ca $D/pki/ca.pem --name {name} --token-file $D/{name}.invitation \
             --root $D/{name} --data-dir $D/{name}.data --listen 127.0.0.1:{port} & {pid}=$!"
        )
    };
    let invite =
        |name: &str| format!("{program} executors invite {name} --data-dir $D/head.data >$D/{name}.invitation");
    [
        format!("D={FOLDER}; mkdir -p $D/h1 $D/h2; head -c 512M /dev/urandom >$D/h1/image.raw; truncate -s 1G $D/h1/image.raw"),
        format!("{program} pki init --dir $D/pki"),
        format!("{program} pki issue --dir $D/pki --host 127.0.0.1 --cert $D/cert.pem --key $D/key.pem"),
        format!(
            "{program} serve --listen 127.0.0.1:5309 --listen https://127.0.0.1:5308 --tls-cert $D/cert.pem --tls-key $D/key.pem \
             --pki-dir $D/pki --data-dir $D/head.data --executors none & SERVE=$!"
        ),
        "curl -fsS --retry 9 --retry-connrefused -o /dev/null http://127.0.0.1:5309/readyz".into(),
        invite("h1"),
        invite("h2"),
        executor("h1", 5310),
        executor("h2", 5330),
        format!("until [ $({program} executors | grep -c ' up ') = 2 ]; do sleep 1; done; {program} executors"),
        format!(
            "ID=$({program} submit file://h1$D/h1/image.raw file://h2$D/h2/copy.raw --transport quic --rate-limit 128M)"
        ),
        "sleep 3; kill -KILL $H2".into(),
        executor("h2", 5330),
        format!("{program} wait $ID; {program} list"),
        "cmp $D/h1/image.raw $D/h2/copy.raw && echo equal".into(),
        "kill $SERVE $H1 $H2; wait $SERVE $H1 $H2; rm -r $D".into(),
    ]
    .map(|line| format!("  {line}"))
    .into()
}

/// The image for all hosts that are there, once more.
pub(super) fn distribute(deployment: &Deployment, source_url: &str) -> Vec<String> {
    let (program, server) = (super::super::program(), deployment.server());
    let to = deployment.template("by-hand.raw");
    [
        format!("export STACCATO_SERVER={server}"),
        format!("{program} executors"),
        format!("{program} distribute {source_url} --to '{to}' --hosts 100% --watch"),
        format!("{program} distributions"),
        format!("cmp {} {}", deployment.image().display(), deployment.path("h1", "by-hand.raw").display()),
    ]
    .map(|line| format!("  {line}"))
    .into()
}

/// The hosts that are there, used once more.
pub(super) fn here(deployment: &Deployment, last: &Move) -> Vec<String> {
    let program = super::super::program();
    let server = deployment.server();
    [
        format!("export STACCATO_SERVER={server}"),
        format!("{program} executors"),
        format!(
            "{program} submit {} {} --transport quic --wait",
            deployment.url("h1", "image.raw"),
            deployment.url("h2", "by-hand.raw")
        ),
        format!(
            "cmp {} {}",
            deployment.path("h1", "image.raw").display(),
            deployment.path("h2", "by-hand.raw").display()
        ),
        format!("{program} list   # the last one went from {} to {}", last.from, last.to),
    ]
    .map(|line| format!("  {line}"))
    .into()
}
