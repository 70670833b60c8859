//! `staccato demo`: the main job, shown in one minute.
//!
//! Everything is real: a service in a temporary folder, an image with holes behind an HTTP server, a submission over
//! REST, a SIGKILL for the executor half-way, and the comparison of what arrived with what was sent.

pub mod hosts;
mod image;
mod progress;
mod server;

use std::{
    fmt::Display,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::{Client, Server};
use image::Between;
use progress::{Followed, follow};

/// How the demonstration is run.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Size of the image in MiB.
    pub mib: u64,
    /// The transfer's rate limit in MiB per second.
    pub rate_mib: u64,
    /// Keep the service running at the end, until Ctrl-C.
    pub keep: bool,
}

/// Runs the demonstration.
pub async fn run(options: DemoOptions) -> Result<(), String> {
    let folder =
        tempfile::Builder::new().prefix("staccato-demo-").tempdir().map_err(text("make a temporary folder"))?;
    let place = |name: &str| folder.path().join(name);
    for name in ["source", "images"] {
        fs::create_dir(place(name)).map_err(text("make a folder"))?;
    }
    let (image, copy) = (place("source/image.raw"), place("images/image.raw"));
    let bytes = options.mib << 20;

    say(&format!("1. Making an image of {} MiB, half of it holes: {}", options.mib, image.display()));
    let data_bytes = image::make(&image, bytes, Between::Holes).map_err(text("make the image"))?;

    let listener = TcpListener::bind("127.0.0.1:0").map_err(text("find a free port"))?;
    let server = server::serve(image.clone(), listener).map_err(text("serve the image"))?;
    say(&format!("2. Serving it at {}", server.url));

    let port = free_port().map_err(text("find a free port"))?;
    let service = Service::start(folder.path(), port)?;
    let client = Client::new(Server::Tcp("127.0.0.1".into(), port));
    service.wait_until_ready(&client).await?;
    say(&format!("3. Started the service at http://127.0.0.1:{port}, data in {}", place("data").display()));

    let body = json!({
        "source_url": server.url,
        "destination_url": format!("file://{}", copy.display()),
        "rate_limit": options.rate_mib << 20,
    });
    let created = client.post("/v1/transfers", &body).await.map_err(|error| error.to_string())?.body;
    let id = created["id"].as_str().ok_or("the service gave the transfer no id")?.to_owned();
    say(&format!(
        "4. Submitted transfer {id}, limited to {} MiB/s; half-way its executor gets SIGKILL",
        options.rate_mib
    ));

    let began = Instant::now();
    let mut kill = || {
        let executor = service.executor().ok_or("the executor is not there")?;
        kill_process(executor, Signal::KILL).map_err(|error| format!("cannot kill the executor: {error}"))?;
        let pid = executor.as_raw_nonzero();
        Ok(format!("5. Killed the executor (pid {pid}); the service starts another one, which resumes"))
    };
    let Followed { document, durable_half_way } = follow(&client, &id, bytes, Some(&mut kill)).await?;
    let seconds = began.elapsed().as_secs_f64();

    say("6. Complete. Comparing every byte with the source");
    image::compare(&image, &copy)?;
    let stored = image::stored_bytes(&copy).map_err(text("look at the copy"))?;
    let sent = server.bytes_sent();
    say(&format!("   equal; crc32 {}", document["crc32"].as_str().unwrap_or("unknown")));
    say(&format!(
        "   {:.1} s, {:.0} MB/s (limit {} MB/s)",
        seconds,
        bytes as f64 / 1e6 / seconds,
        (options.rate_mib << 20) / 1_000_000
    ));
    say(&format!(
        "   killed at {:.0} MB durable; {:.1} MB fetched twice",
        durable_half_way as f64 / 1e6,
        sent.saturating_sub(bytes) as f64 / 1e6
    ));
    say(&format!("   holes kept: the copy takes {} MiB of disk for {} MiB of data", stored >> 20, data_bytes >> 20));

    if options.keep {
        say("\nThe service and the image's server run until you press Ctrl-C. Now by hand:");
        by_hand(port, service.process.id(), &server.url, &place("images/again.raw"));
        tokio::signal::ctrl_c().await.map_err(text("wait for Ctrl-C"))?;
    } else {
        let folder = std::env::temp_dir().join("staccato-by-hand");
        let source = format!("file://{}/image.raw", folder.display());
        say(
            "\nThe same by hand, line by line, with a file in the place of the URL (any http:// URL of your own will do; with",
        );
        say("--keep, this demonstration leaves its service and its image's server running for you):");
        say(&format!("  mkdir -p {0} && head -c 512M /dev/urandom >{0}/image.raw", folder.display()));
        say(&format!("  truncate -s 1G {}/image.raw", folder.display()));
        say(&format!("  {} serve --root {1} --data-dir {1}.data & SERVE=$!", program(), folder.display()));
        by_hand(5309, "$SERVE", &source, &folder.join("copy.raw"));
    }
    Ok(())
}

/// The requests of this demonstration, for a shell.
fn by_hand(port: u16, serve: impl Display, source_url: &str, destination: &Path) {
    let transfers = format!("http://127.0.0.1:{port}/v1/transfers");
    let destination_url = format!("file://{}", destination.display());
    let body = json!({"source_url": source_url, "destination_url": destination_url, "rate_limit": 128 << 20});
    say(&format!("  curl -s {transfers} -H 'Content-Type: application/json' -d '{body}'"));
    say(&format!("  kill -KILL $(pgrep -P {serve})   # its executor; another one takes over within a second"));
    say(&format!("  curl -s {transfers}"));
    say("and with the id that the first one answered:");
    say(&format!("  curl -s {transfers}/ID"));
    let action = "-H 'Content-Type: application/json' -d '{\"xferaction\": \"pause\"}'   # or resume, cancel";
    say(&format!("  curl -s {transfers}/ID/action {action}"));
    say(&format!("  curl -s -X DELETE {transfers}/ID"));
}

/// This program as it would be called from here.
fn program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("staccato"));
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).unwrap_or(&program).display().to_string()
}

/// The service, ended when the demonstration ends.
struct Service {
    process: Child,
    log: PathBuf,
}

impl Service {
    fn start(folder: &Path, port: u16) -> Result<Self, String> {
        let log = folder.join("service.log");
        let output = fs::File::create(&log).map_err(text("create the log"))?;
        let program = std::env::current_exe().map_err(text("find the program itself"))?;
        let process = Command::new(program)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--socket")
            .arg(folder.join("socket"))
            .arg("--root")
            .arg(format!("{}:rw", folder.join("images").display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(text("open the log"))?)
            .stderr(output)
            .spawn()
            .map_err(text("start the service"))?;
        Ok(Self { process, log })
    }

    async fn wait_until_ready(&self, client: &Client) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while client.get("/readyz").await.is_err() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("the service did not become ready within 10 s:\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Its one child process.
    fn executor(&self) -> Option<Pid> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).ok()?;
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let children: Vec<i32> = children
            .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|pid| pid.parse().ok())
            .collect();
        children.first().and_then(|pid| Pid::from_raw(*pid))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn say(line: &str) {
    println!("{line}");
}

fn text<E: Display>(doing: &'static str) -> impl Fn(E) -> String {
    move |error| format!("cannot {doing}: {error}")
}
