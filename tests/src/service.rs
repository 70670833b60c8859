//! A running service.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    binary::{command, staccato},
    process::{Killed, children, eventually, signal},
};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A service with a data folder and a root of its own.
pub struct Service {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    prepare: fn(&mut Command),
    process: Option<Killed>,
    agent: ureq::Agent,
}

/// An answer of the REST API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null when empty.
    pub body: Value,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The code of a problem document.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Service {
    /// Starts a service with one local executor; `arguments` are added to `staccato serve`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| ())
    }

    /// [`Service::start`], each of its processes under conditions that `prepare` sets.
    pub fn start_with(arguments: &[&str], prepare: fn(&mut Command)) -> Self {
        let folder = tempfile::tempdir_in(scratch()).expect("a folder can be made");
        fs::create_dir(folder.path().join("root")).expect("a folder can be made");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let mut service = Self {
            port: free_port(),
            folder,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            prepare,
            process: None,
            agent,
        };
        service.launch();
        service
    }

    /// Starts the process (again), on the same port and data, and waits until it is ready. Returns how long that took.
    pub fn launch(&mut self) -> Duration {
        let began = Instant::now();
        let log =
            fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log opens");
        let mut command = command();
        command.arg("serve").arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        if !self.arguments.iter().any(|argument| argument == "--data-dir") {
            command.arg("--data-dir").arg(self.data());
        }
        command.arg("--socket").arg(self.socket());
        command.arg("--root").arg(format!("{}:rw", self.root().display()));
        command.args(&self.arguments);
        (self.prepare)(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log opens")).stderr(log);
        self.process = Some(Killed(command.spawn().expect("the service starts")));
        eventually(PATIENCE, "the service is ready", || {
            let process = self.process.as_mut().expect("just started");
            if let Ok(Some(status)) = process.0.try_wait() {
                panic!("the service ended with {status}:\n{}", self.log());
            }
            (self.get("/readyz").status == 200).then_some(())
        });
        began.elapsed()
    }

    /// Kills the service's process (its executor ends by itself) and waits for its end.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends the service a signal.
    pub fn signal(&self, what: Signal) {
        signal(self.pid(), what);
    }

    /// Waits until the service's process has ended by itself; its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("the service runs");
        eventually(PATIENCE, "the service ends", || process.0.try_wait().expect("a child can be waited for")).code()
    }

    /// Process id of `serve`.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the service runs").0.id()
    }

    /// Process id of its executor; waits for one.
    pub fn executor(&self) -> u32 {
        eventually(PATIENCE, "an executor runs", || children(self.pid()).first().copied())
    }

    /// Starts one more executor of this service, as another host would have one.
    pub fn second_executor(&self) -> Killed {
        let mut command = command();
        command.args(["executor", "--instance", &uuid::Uuid::now_v7().to_string()]);
        command.arg("--data-dir").arg(self.data()).arg("--root").arg(format!("{}:rw", self.root().display()));
        command.args(&self.arguments);
        (self.prepare)(&mut command);
        // It ends when its standard input does.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Killed(command.spawn().expect("an executor starts"))
    }

    /// The root it may read and write.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Path of a file in the root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// URL of a file in the root.
    pub fn file(&self, name: &str) -> String {
        url::Url::from_file_path(self.path(name)).expect("the root is absolute").into()
    }

    /// Writes a file in the root.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the root can be written");
    }

    /// Reads a file in the root.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names in the root, sorted; the hidden ones, too.
    pub fn names(&self) -> Vec<String> {
        names(&self.root())
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.url())).call())
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Answer {
        answer(self.agent.delete(format!("{}{path}", self.url())).call())
    }

    /// POST of a JSON document.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_raw(path, "application/json", body.to_string().as_bytes(), &[])
    }

    /// POST of anything, with more headers.
    pub fn post_raw(&self, path: &str, content_type: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.url())).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body))
    }

    /// Submits a transfer and returns its id.
    pub fn submit(&self, source: &str, destination: &str, more: Value) -> String {
        let mut body = json!({"source_url": source, "destination_url": destination});
        for (name, value) in more.as_object().expect("options are an object") {
            body[name] = value.clone();
        }
        let answer = self.post("/v1/transfers", &body);
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.body["id"].as_str().expect("a transfer has an id").to_owned()
    }

    /// The document of a transfer.
    pub fn show(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/transfers/{id}"));
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body
    }

    /// Asks for an action; the status of the answer.
    pub fn action(&self, id: &str, action: &str) -> Answer {
        self.post(&format!("/v1/transfers/{id}/action"), &json!({"xferaction": action}))
    }

    /// Waits until a transfer is in a state and returns its document; panics when it is in another final one.
    pub fn wait_for(&self, id: &str, state: &str) -> Value {
        const FINAL: [&str; 3] = ["STATE_COMPLETE", "STATE_ERROR", "STATE_CANCELED"];
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = self.get(&format!("/v1/transfers/{id}"));
            // While the service is down there is no document; the deadline bounds that.
            if document.status == 200 {
                last = document.body;
                let now = last["state"].as_str().unwrap_or_default();
                if now == state {
                    return last;
                }
                assert!(!FINAL.contains(&now), "{state} expected: {last:#}\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "{state} expected: {last:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a transfer is complete.
    pub fn complete(&self, id: &str) -> Value {
        self.wait_for(id, "STATE_COMPLETE")
    }

    /// Waits until a transfer has failed; the code of its error.
    pub fn failure(&self, id: &str) -> String {
        self.wait_for(id, "STATE_ERROR")["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until at least so many bytes of a transfer are durable.
    pub fn wait_for_progress(&self, id: &str, bytes: u64) -> Value {
        eventually(PATIENCE, "progress", || {
            Some(self.show(id)).filter(|document| document["progress"].as_u64().unwrap_or(0) >= bytes)
        })
    }

    /// Runs a command of the binary against this service.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = command();
        command.args(arguments).env("STACCATO_SERVER", self.url()).current_dir(self.root());
        command.output().expect("the binary runs")
    }
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A folder on a disk (not tmpfs) for a test's files.
pub fn scratch() -> PathBuf {
    let folder = staccato().with_file_name("test-scratch");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// A port of loopback that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    match result {
        Ok(mut response) => {
            let headers = response.headers().iter();
            let headers = headers
                .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect();
            let status = response.status().as_u16();
            let text = response.body_mut().read_to_string().unwrap_or_default();
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Answer { status, headers, body }
        }
        // No answer at all: the service is not there (yet).
        Err(error) => Answer { status: 0, headers: Vec::new(), body: Value::String(error.to_string()) },
    }
}
