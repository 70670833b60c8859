//! Who carries an object across a link: each is two processes, one at either end ([`crate::link::pair`]).

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    str::FromStr,
};

use serde_json::Value;
use staccato_dataplane::yardstick::link::Transport;

use super::{Fio, installed, path_of, rsync};
use crate::{
    contest::{Contestant, Told},
    link::{
        Testbed,
        ends::FetchTold,
        pair::{Ends, PairTold},
        pki,
    },
    measure::Ended,
    probe::disk::Direction,
    record::Kind,
    server,
    worker::{Program, argument},
};

/// Where bytes come from, or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere, or a file system in memory for tools that need files.
    Memory,
    /// A disk.
    Disk,
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = [Self::Memory, Self::Disk].into_iter().find(|storage| storage.to_string() == text);
        named.ok_or_else(|| format!("{text} is neither memory nor disk"))
    }
}

/// What crosses the link, and how.
#[derive(Clone, Debug)]
pub struct LinkCase {
    /// Ourselves.
    pub program: Program,
    /// Where.
    pub bed: Rc<Testbed>,
    /// A folder for configurations; it outlives the contestants.
    pub folder: PathBuf,
    /// The object, as a file: on the disk, or in memory.
    pub source: PathBuf,
    /// Where the object is.
    pub from: Storage,
    /// Where it goes.
    pub to: Storage,
    /// Its length.
    pub bytes: u64,
    /// How ours crosses; rivals are those that do alike.
    pub transport: Transport,
    /// Connections at a time, for everybody who can be told.
    pub streams: usize,
    /// Seconds after which a contestant is given up.
    pub seconds_max: f64,
}

/// Everybody who takes part in such a case: ours first.
pub fn link_contestants(case: &LinkCase) -> io::Result<Vec<Box<dyn Contestant>>> {
    let mut all = vec![case.ours()?];
    let in_memory = case.from == Storage::Memory && case.to == Storage::Memory;
    match case.transport {
        Transport::Tcp => {
            if in_memory {
                all.push(case.iperf3());
            }
            all.extend(case.over_http()?);
            all.push(case.rsync()?);
        }
        Transport::TcpTls => {
            if in_memory {
                all.push(case.bare("limit: rustls", Kind::Limit, "rustls", "connections"));
            }
            all.extend(case.scp()?);
        }
        Transport::Quic(_) if in_memory => {
            all.push(case.bare("quinn on tokio", Kind::Rival, "quinn", "streams"));
            all.push(case.iperf3());
        }
        Transport::Quic(_) => {}
    }
    let mut all: Vec<_> = all.into_iter().map(|both| Box::new(both) as Box<dyn Contestant>).collect();
    // Both ends are on one machine, and its disk does all that theirs would do.
    let direction = match (case.from, case.to) {
        (Storage::Memory, Storage::Memory) => None,
        (Storage::Disk, Storage::Memory) => Some(Direction::Read),
        (Storage::Memory, Storage::Disk) => Some(Direction::Write),
        (Storage::Disk, Storage::Disk) => Some(Direction::Both),
    };
    if let Some(direction) = direction {
        all.push(Box::new(Fio { source: case.source.clone(), direction, bytes: case.bytes }));
    }
    Ok(all)
}

/// A server, and a client whose words may have `{to}`, `{folder}` and `{name}` of the target.
#[derive(Clone, Debug)]
pub struct Both {
    program: Program,
    name: String,
    kind: Kind,
    /// Programs that it needs.
    needs: Vec<&'static str>,
    ends: Ends,
    tells: Tells,
    writes_target: bool,
    is_durable: bool,
}

/// Who knows best how long it took.
#[derive(Clone, Copy, Debug)]
enum Tells {
    /// The clock around the client.
    Clock,
    /// The client, ours.
    Fetch,
    /// iperf3's report, which has a rate.
    Iperf3 { bytes: u64 },
}

impl LinkCase {
    fn both(
        &self,
        name: &str,
        kind: Kind,
        needs: &[&'static str],
        at: SocketAddr,
        server: Vec<String>,
        client: Vec<String>,
    ) -> Both {
        Both::new(&self.program, name, kind, needs, self.bed.ends(at, server, client, self.seconds_max))
    }

    /// A folder of its own for a server's files.
    fn place(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(format!("{name}-{}-{}", self.transport, self.streams));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn ours(&self) -> io::Result<Both> {
        let pki = self.place("staccato")?;
        pki::write(&pki)?;
        let lanes = self.streams.min(std::thread::available_parallelism().map_or(1, usize::from));
        let at = self.bed.port(lanes as u16);
        let common = [
            format!("--transport={}", self.transport),
            format!("--address={at}"),
            format!("--owner-lanes={lanes}"),
            format!("--pki={}", pki.display()),
        ];
        let mut server = words_of(&self.program.command("own"));
        server.extend(common.clone());
        server.push(format!("--root={}", self.source.parent().expect("it is a file").display()));
        let mut client = words_of(&self.program.command("fetch"));
        client.extend(common);
        client.extend([format!("--connections={}", self.streams), format!("--lanes={lanes}")]);
        client.push(match self.from {
            Storage::Memory => format!("memory:///{}", self.bytes),
            Storage::Disk => format!("file://{}", self.source.display()),
        });
        client.push(if self.to == Storage::Memory { "null:///nowhere".into() } else { "file://{to}".into() });
        client.push(self.bytes.to_string());
        let both = self.both(&format!("staccato {}", self.transport), Kind::Ours, &[], at, server, client);
        let listens = (0..lanes as u16).map(|lane| at.port() + lane).collect();
        let ends = Ends { listens, ..both.ends };
        Ok(Both { ends, tells: Tells::Fetch, writes_target: self.to == Storage::Disk, is_durable: true, ..both })
    }

    fn iperf3(&self) -> Both {
        let at = self.bed.port(1);
        let (host, port, bytes) = (at.ip().to_string(), at.port().to_string(), self.bytes.to_string());
        let server = words(&["iperf3", "--server", "--port", &port]);
        // The server sends: as an owner does.
        let client =
            ["iperf3", "--client", &host, "--port", &port, "--reverse", "--json", "--bytes", &bytes, "--parallel"];
        let client = [words(&client), vec![self.streams.to_string()]].concat();
        let both = self.both("limit: iperf3", Kind::Limit, &["iperf3"], at, server, client);
        both.into_nowhere(Tells::Iperf3 { bytes: self.bytes })
    }

    /// A sender and a taker of our own that do nothing else.
    fn bare(&self, name: &str, kind: Kind, work: &str, streams: &str) -> Both {
        let at = self.bed.port(1);
        let pki = self.folder.join(format!("staccato-{}-{}", self.transport, self.streams));
        let each = self.bytes / self.streams as u64;
        let common = [at.to_string(), each.to_string(), format!("--pki={}", pki.display())];
        let own = words_of(&self.program.command(work));
        let client = [&own[..], &common, &[format!("--{streams}={}", self.streams)]].concat();
        let both = self.both(name, kind, &[], at, [&own[..], &common].concat(), client);
        both.into_nowhere(Tells::Fetch)
    }

    /// From an nginx: curl with one connection, aria2c and rclone with eight.
    fn over_http(&self) -> io::Result<Vec<Both>> {
        let (files, name) = (self.source.parent().expect("it is a file"), file_name(&self.source));
        let make = |program: &'static str, client: &dyn Fn(&str) -> Vec<String>| -> io::Result<Both> {
            let at = self.bed.port(1);
            let server = server::command(&self.place(&format!("nginx-{program}"))?, files, at)?;
            let (label, needs) =
                (if program == "curl" { program.into() } else { format!("{program} x8") }, [program, "nginx"]);
            Ok(self.both(&label, Kind::Rival, &needs, at, server, client(&format!("http://{at}"))))
        };
        let to = if self.to == Storage::Memory { "/dev/null" } else { "{to}" };
        let curl = make("curl", &|origin| words(&["curl", "-sSf", "-o", to, &format!("{origin}/{name}")]))?;
        let curl = if self.to == Storage::Memory { curl.into_nowhere(Tells::Clock) } else { curl };
        let aria2 = ["aria2c", "-q", "-x8", "-s8", "-k1M", "--file-allocation=none", "-d", "{folder}", "-o", "{name}"];
        let aria2 = make("aria2c", &|origin| [words(&aria2), vec![format!("{origin}/{name}")]].concat())?;
        let rclone = ["rclone", "copyto", "--multi-thread-streams=8", "--multi-thread-cutoff=1M", "--http-url"];
        let rclone =
            make("rclone", &|origin| [words(&rclone), words(&[origin, &format!(":http:{name}"), "{to}"])].concat())?;
        Ok(vec![curl, aria2, rclone])
    }

    fn rsync(&self) -> io::Result<Both> {
        let at = self.bed.port(1);
        let server = rsync::daemon(&self.place("rsync")?, self.source.parent().expect("it is a file"), at)?;
        let from = format!("rsync://{at}/files/{}", file_name(&self.source));
        let client = words(&["rsync", "--whole-file", "--inplace", &from, "{to}"]);
        Ok(self.both("rsync daemon", Kind::Rival, &["rsync"], at, server, client))
    }

    /// With throw-away keys. None where keys cannot be made: sshd is absent then, too.
    fn scp(&self) -> io::Result<Option<Both>> {
        let (Some(sshd), true) = (path_of("sshd"), installed("ssh-keygen")) else { return Ok(None) };
        let (at, folder) = (self.bed.port(1), self.place("sshd")?);
        let file = |name: &str| folder.join(name).display().to_string();
        for key in ["host", "user"] {
            if !folder.join(key).exists() {
                run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &file(key)])?;
            }
        }
        fs::copy(file("user.pub"), file("authorized"))?;
        // sshd as root wants this folder, which a start of the service would have made.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        fs::write(
            file("config"),
            format!(
                "ListenAddress {at}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
                 PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
                file("host"),
                file("authorized")
            ),
        )?;
        let server = words(&[&sshd.display().to_string(), "-D", "-e", "-f", &file("config")]);
        let (port, key) = (at.port().to_string(), file("user"));
        let user = run("id", &["-un"])?;
        let from = format!("{}@{}:{}", user.trim(), at.ip(), self.source.display());
        let options =
            ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oIdentitiesOnly=yes", "-oBatchMode=yes"];
        let client = ["scp", "-q", "-F", "/dev/null", "-P", &port, "-i", &key];
        let client = [words(&client), words(&options), words(&[&from, "{to}"])].concat();
        Ok(Some(self.both("scp", Kind::Rival, &["scp", "sshd"], at, server, client)))
    }
}

impl Both {
    /// These two, which need some programs.
    pub fn new(program: &Program, name: &str, kind: Kind, needs: &[&'static str], ends: Ends) -> Self {
        Self {
            program: program.clone(),
            name: name.to_owned(),
            kind,
            needs: needs.to_owned(),
            ends,
            tells: Tells::Clock,
            writes_target: true,
            is_durable: false,
        }
    }

    /// Its client makes durable what it has written.
    pub fn durable(self) -> Self {
        Self { is_durable: true, ..self }
    }

    /// It leaves no file.
    fn into_nowhere(self, tells: Tells) -> Self {
        Self { tells, writes_target: false, is_durable: true, ..self }
    }
}

impl Contestant for Both {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn absent(&self) -> Option<String> {
        let missing = self.needs.iter().find(|program| !installed(program))?;
        Some(format!("{missing} is not installed"))
    }

    fn command(&self, target: &Path) -> Command {
        let folder = target.parent().unwrap_or(Path::new("")).display().to_string();
        let fill = |word: &String| {
            let to = word.replace("{to}", &target.display().to_string());
            to.replace("{folder}", &folder).replace("{name}", &file_name(target))
        };
        let ends = Ends { client: self.ends.client.iter().map(fill).collect(), ..self.ends.clone() };
        let mut command = self.program.command("pair");
        command.arg(argument(&ends));
        command
    }

    fn is_durable(&self) -> bool {
        self.is_durable
    }

    fn writes_target(&self) -> bool {
        self.writes_target
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: PairTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        if let Some(late) = told.late {
            return Err(io::Error::new(io::ErrorKind::TimedOut, late));
        }
        let said = &told.client_said;
        let (seconds, reader) = match self.tells {
            Tells::Clock => (told.seconds, told.client_cpu_seconds),
            Tells::Fetch => {
                let told: FetchTold = serde_json::from_str(said).map_err(io::Error::other)?;
                (told.seconds, told.cpu_seconds)
            }
            Tells::Iperf3 { bytes } => {
                let rate = received_rate(said).ok_or_else(|| io::Error::other("iperf3's report is not understood"))?;
                (bytes as f64 / rate, told.client_cpu_seconds)
            }
        };
        let ends = [("owner", told.server_cpu_seconds), ("reader", reader)];
        Ok(Told {
            seconds: Some(seconds),
            cpu_seconds: Some(told.server_cpu_seconds + reader),
            cpu_seconds_by_end: BTreeMap::from(ends.map(|(name, seconds)| (name.to_owned(), seconds))),
            ..Told::default()
        })
    }
}

/// Bytes per second that came, all streams together.
fn received_rate(report: &str) -> Option<f64> {
    let report: Value = serde_json::from_str(report).ok()?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64()?;
    (bits > 0.0).then_some(bits / 8.0)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn words_of(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn run(program: &str, words: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(words).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_iperf3_is_read() {
        let report = r#"{"end": {"sum_received": {"bits_per_second": 8e9}}}"#;
        assert_eq!(received_rate(report), Some(1e9));
        assert_eq!((received_rate("{}"), received_rate("error")), (None, None));
    }
}
