//! Protocols from outside: an executable `staccato-protocol-NAME` adds the scheme NAME.
//!
//! `PLUGINS.md`, beside this crate's README, is the protocol that is spoken with it: lines of JSON (`message`), and an
//! `area` of memory for bytes. A process is kept by a thread of its own (`process`, `keeper`), shared by all lanes, and
//! started when it is needed: it may die at any time, and whoever was waiting for it is told to try again. `find` looks
//! for executables; `source`, `session` and `destination` are the [contract](crate::contract) in the plug-in's words.

mod area;
#[cfg(any(test, feature = "conformance"))]
pub mod check;
mod destination;
pub mod find;
mod handle;
mod keeper;
mod message;
mod process;
mod session;
mod source;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::LocalBoxFuture};

use handle::Handle;
use message::{Hello, Reads, Request};
pub use process::Patience;
use process::Process;

use crate::{
    Capabilities, Code, Error, Interrupt, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, OptionSpec, SourceRequest, SweepRequest},
    outside::Launch,
};

/// How a plug-in is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is started.
    pub launch: Launch,
    /// What it is told at its start: names and values that are its own business.
    pub settings: BTreeMap<String, String>,
    /// How long it is waited for.
    pub patience: Patience,
}

/// A module that an executable is.
pub struct PluginProtocol {
    plugin: Arc<Plugin>,
    schemes: &'static [&'static str],
    capabilities: Capabilities,
}

/// A plan, and what the executable said it is.
struct Known {
    plan: Plan,
    hello: Hello,
}

/// The executable as everything in this process uses it.
struct Plugin {
    known: Arc<Known>,
    standing: Mutex<Standing>,
    objects: AtomicU64,
}

/// How it is about its process.
#[derive(Default)]
struct Standing {
    process: Option<Arc<Process>>,
    /// How many ended one after the other without having been of use; how the last one did, and when.
    died_young: u32,
    last: Option<(String, Instant)>,
}

impl PluginProtocol {
    /// Starts an executable, hears what it is, and ends it: it is started again when it is needed. Blocks for
    /// [`Patience::hello`] at most. Why it cannot be used is said behind its name.
    ///
    /// Names and help that it announces are kept for the life of this process: call it once for each.
    pub fn meet(plan: Plan) -> Result<Self, String> {
        let hello = keeper::hear(&plan)?;
        let name: &'static str = hello.name.clone().leak();
        let options = hello.options.iter().map(|option| OptionSpec {
            name: option.name.clone().leak(),
            secret: option.secret,
            help: option.help.clone().leak(),
        });
        let capabilities = Capabilities {
            source: hello.source.is_some(),
            destination: hello.destination.is_some(),
            takes: hello.destination.unwrap_or_default(),
            runtimes: &[Runtime::TokioUring],
            options: options.collect::<Vec<_>>().leak(),
        };
        let known = Arc::new(Known { plan, hello });
        let plugin = Arc::new(Plugin { known, standing: Mutex::default(), objects: AtomicU64::new(0) });
        Ok(Self { plugin, schemes: vec![name].leak(), capabilities })
    }

    /// The scheme of its URLs.
    pub fn scheme(&self) -> &'static str {
        self.schemes[0]
    }
}

impl Plugin {
    /// A process that runs, or is being started. One that has died young has to wait longer each time.
    fn process(&self) -> Result<Arc<Process>, Error> {
        let mut standing = self.standing.lock().expect("no code panics while it holds this lock");
        if let Some(process) = &standing.process {
            let Some((how, when, useful)) = process.ended() else { return Ok(process.clone()) };
            standing.died_young = if useful { 0 } else { standing.died_young.saturating_add(1) };
            (standing.process, standing.last) = (None, Some((how, when)));
        }
        if let Some((how, when)) = &standing.last {
            let left = self.wait_after(standing.died_young).saturating_sub(when.elapsed());
            if !left.is_zero() {
                let name = &self.known.hello.name;
                let why = format!("the plug-in {name} {how}, as soon as it was started; it rests for a moment");
                return Err(Error::retry(Code::ConnectFailed, why).after(left));
            }
        }
        let process = Arc::new(Process::start(self.known.clone())?);
        standing.process = Some(process.clone());
        Ok(process)
    }

    /// The wait before a start, when so many have died young one after the other.
    fn wait_after(&self, died_young: u32) -> Duration {
        let (first, longest) = self.known.plan.patience.restart;
        match died_young {
            0 | 1 => Duration::ZERO,
            many => first.saturating_mul(1 << (many - 2).min(16)).min(longest),
        }
    }

    /// What an object will be called, at a process that runs.
    fn handle(&self, options: &Options) -> Result<Arc<Handle>, Error> {
        let is_secret =
            |name: &&String| self.known.hello.options.iter().all(|option| option.name != **name || option.secret);
        let secrets = options.keys().filter(is_secret).filter_map(|name| options.get(name)).cloned().collect();
        let number = self.objects.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Arc::new(Handle::new(self.process()?, number, secrets)))
    }

    fn check(&self, url: &ObjectUrl) -> Result<(), Error> {
        let path = url.url().path();
        if path.is_empty() || path == "/" {
            let name = &self.known.hello.name;
            return Err(Error::fatal(Code::InvalidUrl, format!("the URL names no object; write {name}:///NAME")));
        }
        Ok(())
    }
}

impl Protocol for PluginProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn reads_ranges(&self) -> bool {
        self.plugin.known.hello.source == Some(Reads::Ranges)
    }

    fn resumes(&self) -> bool {
        self.plugin.known.hello.resumes
    }

    fn check_source(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        self.plugin.check(url)
    }

    fn check_destination(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        self.plugin.check(url)
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        _lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            let source = source::PluginSource::open(self.plugin.clone(), request).await?;
            Ok(Rc::new(source) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(session::PluginSession::begin(&self.plugin, request)?))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        let handle = self.plugin.handle(&request.options)?;
        let sweep = Request::Sweep {
            url: request.url.as_str(),
            options: &request.options,
            transfer: &request.transfer,
            upload: request.upload.as_deref(),
        };
        handle.ask_blocking(&sweep, &Interrupt::default()).map(drop)
    }
}
