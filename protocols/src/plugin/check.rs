//! The [conformance suite](crate::conformance) on a plug-in, whose `fixture` arranges its own storage for it.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use futures_util::FutureExt;

use super::{
    PluginProtocol,
    area::SLOT_BYTES,
    handle::Handle,
    message::{Answer, Fixture, Request},
};
use crate::{
    Error, Interrupt, ObjectUrl, Options, Protocol, Runtime,
    conformance::{self, Abilities, DestinationHarness, Made, SourceHarness, sample},
    contract::SharedProtocol,
};

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its name, which says what is promised.
    pub name: String,
    /// What is wrong; none where the promise is kept.
    pub wrong: Option<String>,
}

/// Runs the suite on both ends of a plug-in, on a lane. Each end is checked up to the first promise that is not kept;
/// `tell` hears of every check when it is over. Objects are made and removed by the plug-in's `fixture`, and opened with
/// `options`.
pub fn run(module: PluginProtocol, options: Options, mut tell: impl FnMut(&Checked)) -> Result<Vec<Checked>, Error> {
    let capabilities = module.capabilities();
    if !module.plugin.known.hello.fixture {
        let why =
            "the plug-in does not answer `fixture` (PLUGINS.md), without which nothing can be arranged for a check";
        return Err(Error::fatal(crate::Code::InvalidOption, why));
    }
    let storage = Rc::new(Storage { module: Arc::new(module), options, urls: RefCell::default() });
    let mut all = Vec::new();
    let mut end = |name: &str, wanted: bool, check: &dyn Fn()| {
        if !wanted {
            return;
        }
        let (names, wrong) = observe(check);
        let last = names.len().saturating_sub(1);
        for (index, check) in names.into_iter().enumerate() {
            let wrong = wrong.clone().filter(|_| index == last);
            let checked = Checked { name: format!("{name}: {check}"), wrong };
            tell(&checked);
            all.push(checked);
        }
    };
    end("source", capabilities.source, &|| conformance::check_source(storage.clone(), Runtime::TokioUring));
    end("destination", capabilities.destination, &|| {
        conformance::check_destination(storage.clone(), Runtime::TokioUring);
    });
    storage.clean_up();
    Ok(all)
}

/// Runs a part of the suite: the checks that it began, and what was wrong with the last one.
fn observe(check: &dyn Fn()) -> (Vec<String>, Option<String>) {
    let (names, result) = conformance::observed(|| catch_unwind(AssertUnwindSafe(check)));
    let wrong = result.err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
    });
    (names, wrong)
}

/// The plug-in's own storage.
struct Storage {
    module: Arc<PluginProtocol>,
    options: Options,
    /// What it was asked for, to be removed at the end.
    urls: RefCell<Vec<ObjectUrl>>,
}

impl Storage {
    fn handle(&self) -> Arc<Handle> {
        self.module.plugin.handle(&self.options).expect("the plug-in runs")
    }

    fn ask(&self, handle: &Arc<Handle>, fixture: Fixture<'_>) -> Answer {
        let answer = handle.ask_blocking(&Request::Fixture(fixture), &Interrupt::default());
        answer.unwrap_or_else(|error| panic!("the fixture failed: {error}"))
    }

    fn url_of(&self, name: &str) -> ObjectUrl {
        // Another run may have left something under the same name.
        let name = format!("{name} {}-{}", std::process::id(), self.urls.borrow().len());
        let answer = self.ask(&self.handle(), Fixture::Url { name: &name });
        let url = answer.url.expect("the fixture answers `url` with a url");
        let url = ObjectUrl::parse(&url).unwrap_or_else(|error| panic!("the fixture made a URL that is none: {error}"));
        self.urls.borrow_mut().push(url.clone());
        url
    }

    /// Removes every object that was asked for; what cannot be removed stays.
    fn clean_up(&self) {
        let Ok(handle) = self.module.plugin.handle(&self.options) else { return };
        for url in self.urls.take() {
            let remove = Request::Fixture(Fixture::Remove { url: url.as_str() });
            if let Err(error) = handle.ask_blocking(&remove, &Interrupt::default()) {
                tracing::warn!("{url} stays behind: {error}");
            }
        }
    }

    fn put(&self, url: &ObjectUrl, bytes: &[u8]) {
        let (handle, total) = (self.handle(), bytes.len() as u64);
        let mut offset = 0;
        loop {
            let slot = handle.slot(&Interrupt::default()).now_or_never();
            let slot = slot.expect("nothing else is under way").expect("nobody interrupts it");
            let length = (total - offset).min(SLOT_BYTES);
            slot.copy_from(&bytes[offset as usize..(offset + length) as usize]).expect("memory can be written");
            self.ask(&handle, Fixture::Place { url: url.as_str(), offset, length, at: slot.start(), total });
            offset += length;
            if offset == total {
                return;
            }
        }
    }
}

impl SourceHarness for Storage {
    fn protocol(&self) -> SharedProtocol {
        self.module.clone()
    }

    fn options(&self) -> Options {
        self.options.clone()
    }

    fn make(&self, name: &str, len: usize) -> Made {
        let made = Made { url: self.url_of(name), bytes: sample(name, len) };
        self.put(&made.url, &made.bytes);
        made
    }

    fn change(&self, made: &Made) -> bool {
        let bytes: Vec<u8> = made.bytes.iter().map(|byte| !byte).collect();
        self.put(&made.url, &bytes);
        true
    }

    fn missing(&self) -> Option<ObjectUrl> {
        Some(self.url_of("missing"))
    }
}

impl DestinationHarness for Storage {
    fn protocol(&self) -> SharedProtocol {
        self.module.clone()
    }

    fn options(&self) -> Options {
        self.options.clone()
    }

    fn url(&self, name: &str) -> ObjectUrl {
        self.url_of(name)
    }

    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        let handle = self.handle();
        let mut bytes = Vec::new();
        loop {
            let slot = handle.slot(&Interrupt::default()).now_or_never();
            let slot = slot.expect("nothing else is under way").expect("nobody interrupts it");
            let (offset, length) = (bytes.len() as u64, SLOT_BYTES);
            let show = Fixture::Show { url: url.as_str(), offset, length, at: slot.start() };
            let found = self.ask(&handle, show).length?;
            let mut piece = vec![0; found.min(length) as usize];
            slot.copy_to(&mut piece, 0).expect("memory can be read");
            bytes.extend(piece);
            if found < length {
                return Some(bytes);
            }
        }
    }

    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.put(url, bytes);
    }

    fn left_overs(&self) -> usize {
        self.ask(&self.handle(), Fixture::LeftOvers).count.expect("the fixture answers `left_overs` with a count")
    }

    fn abilities(&self) -> Abilities {
        let hello = &self.module.plugin.known.hello;
        Abilities { keeps: true, resumes: hello.resumes, identifies: hello.identifies, repairs: false }
    }
}
