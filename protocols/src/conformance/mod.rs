//! The conformance suite of the [contract](crate::contract): what every protocol module must do, and a way to run it on
//! a module of your own. Behind the feature `conformance`; `staccato protocol check` runs it on [plug-ins](crate::plugin).
//!
//! A module says through a harness how its storage is arranged for a test ([`SourceHarness`], [`DestinationHarness`]);
//! the suite does the rest, on a lane of each runtime that the module works on:
//!
//! ```
//! use std::rc::Rc;
//! use staccato_protocols::{
//!     ObjectUrl, Runtime,
//!     conformance::{self, Made, SourceHarness},
//!     contract::SharedProtocol,
//!     synthetic::ZeroProtocol,
//! };
//!
//! struct Zero;
//!
//! impl SourceHarness for Zero {
//!     fn protocol(&self) -> SharedProtocol {
//!         std::sync::Arc::new(ZeroProtocol)
//!     }
//!     fn make(&self, _name: &str, len: usize) -> Made {
//!         Made { url: ObjectUrl::parse(&format!("zero:///{len}")).unwrap(), bytes: vec![0; len] }
//!     }
//! }
//!
//! conformance::check_source(Rc::new(Zero), Runtime::TokioUring);
//! ```
//!
//! A check that fails panics; the name of each check is printed before it runs.

mod destination;
mod in_order;
mod lane;
pub(crate) mod parts;
mod source;

use std::{cell::RefCell, rc::Rc};

pub use lane::{LANE_MEMORY_BYTES, on_lane};

use crate::{
    Code, ObjectUrl, Options, Runtime,
    contract::{SharedProtocol, Takes},
};

/// Chunk size that the suite reads and writes with: small, so that objects of several chunks stay cheap, and still more
/// than one CRC block.
pub const CHUNK_BYTES: usize = 2 * crate::CRC_BLOCK as usize;

/// How objects to read are made for the suite.
pub trait SourceHarness {
    /// The module.
    fn protocol(&self) -> SharedProtocol;

    /// Options to open objects with.
    fn options(&self) -> Options {
        Options::new()
    }

    /// Makes an object of `len` bytes. `name` is free text (spaces, Unicode and percent signs occur) that the harness
    /// encodes as its URLs need; names differ from object to object. The bytes are the harness's choice, where it has
    /// one: [`sample`].
    fn make(&self, name: &str, len: usize) -> Made;

    /// Replaces the bytes of an object with others of the same length, as somebody would who does not know of the
    /// transfer. False where objects never change.
    fn change(&self, _made: &Made) -> bool {
        false
    }

    /// The URL of an object that does not exist; none where every name means something.
    fn missing(&self) -> Option<ObjectUrl> {
        None
    }

    /// Whether objects have a validator, so that changes must be noticed.
    fn validates(&self) -> bool {
        true
    }
}

/// An object that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Where it is.
    pub url: ObjectUrl,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// How destinations are arranged for the suite. One harness serves all checks; each uses names of its own.
pub trait DestinationHarness {
    /// The module.
    fn protocol(&self) -> SharedProtocol;

    /// Options to write with.
    fn options(&self) -> Options {
        Options::new()
    }

    /// The URL of a destination where nothing is. `name` is free text, as for [`SourceHarness::make`].
    fn url(&self, name: &str) -> ObjectUrl;

    /// What somebody else finds under the URL; none when nothing is there.
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>>;

    /// Puts an object there that is not Staccato's.
    fn place(&self, url: &ObjectUrl, bytes: &[u8]);

    /// How many things other than committed objects lie in the storage (partials, sidecars).
    fn left_overs(&self) -> usize;

    /// What the storage can do.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }
}

/// What a destination's storage can do. Modules that can do everything need not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Keeps what is written. Without this everything is accepted and nothing is found again.
    pub keeps: bool,
    /// A later attempt finds what an earlier one wrote, and the CRCs it noted.
    pub resumes: bool,
    /// Partials have an [`Identity`](crate::contract::Identity), by which a commit is recognised afterwards.
    pub identifies: bool,
    /// What is at a destination can be read, and so [repaired](crate::contract::Overwrite::Repair).
    pub repairs: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { keeps: true, resumes: true, identifies: true, repairs: true }
    }
}

/// Runs every check of sources on a lane of `runtime`.
///
/// # Panics
/// When the module breaks the contract.
pub fn check_source(harness: Rc<impl SourceHarness + 'static>, runtime: Runtime) {
    let on = harness.protocol().capabilities().runtimes;
    assert!(on.contains(&runtime), "the module does not claim to work on {runtime:?}");
    on_lane(runtime, async move |lane| source::all(&*harness, &lane).await);
}

/// Runs every check of destinations on a lane of `runtime`. One of them waits until the module gives up on an attempt
/// that does not let go of its partial (5 s for files).
///
/// # Panics
/// When the module breaks the contract.
pub fn check_destination(harness: Rc<impl DestinationHarness + 'static>, runtime: Runtime) {
    let on = harness.protocol().capabilities().runtimes;
    assert!(on.contains(&runtime), "the module does not claim to work on {runtime:?}");
    on_lane(runtime, async move |lane| destination::all(&*harness, &lane).await);
}

/// Runs every check of destinations that [take parts](crate::contract::Writes::Parts) on a lane of `runtime`. Of the
/// harness's abilities, that to resume counts.
///
/// # Panics
/// When the module breaks the contract.
pub fn check_parts_destination(harness: Rc<impl DestinationHarness + 'static>, runtime: Runtime) {
    let on = harness.protocol().capabilities().runtimes;
    assert!(on.contains(&runtime), "the module does not claim to work on {runtime:?}");
    on_lane(runtime, async move |lane| parts::all(&*harness, &lane).await);
}

/// Runs every check of destinations that take one stream, on a lane of `runtime`. Of the harness's abilities none counts.
///
/// # Panics
/// When the module breaks the contract.
pub fn check_in_order_destination(harness: Rc<impl DestinationHarness + 'static>, runtime: Runtime) {
    let capabilities = harness.protocol().capabilities();
    assert!(capabilities.runtimes.contains(&runtime), "the module does not claim to work on {runtime:?}");
    assert_eq!(capabilities.takes, Takes::InOrder, "the module does not claim to take one stream");
    on_lane(runtime, async move |lane| in_order::all(&*harness, &lane).await);
}

/// `len` bytes that look random and depend on `name` only.
pub fn sample(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    crate::synthetic::fill(u64::from(crc32fast::hash(name.as_bytes())), 0, &mut bytes);
    bytes
}

/// Sizes at which something is easily off by one.
fn critical_sizes() -> Vec<usize> {
    let block = crate::CRC_BLOCK as usize;
    let page = crate::chunk::ALIGNMENT;
    [page, block, CHUNK_BYTES].iter().flat_map(|size| [size - 1, *size, size + 1]).chain([0, 1]).collect()
}

thread_local! {
    /// The checks that this thread has begun, where somebody [observes](observed) it.
    static BEGUN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Says which check runs: to whoever observes it, or reads the output of a failed test.
fn begin(check: &str) {
    BEGUN.with_borrow_mut(|begun| match begun {
        Some(names) => names.push(check.to_owned()),
        None => println!("conformance: {check}"),
    });
}

/// Runs a part of the suite in this thread, and says which checks it has begun, in their order.
pub fn observed<T>(run: impl FnOnce() -> T) -> (Vec<String>, T) {
    BEGUN.set(Some(Vec::new()));
    let result = run();
    (BEGUN.take().unwrap_or_default(), result)
}

/// The error of an operation that must fail, which must have one of these codes.
fn must_fail<T>(result: Result<T, crate::Error>, codes: &[Code], what: &str) -> crate::Error {
    match result {
        Ok(_) => panic!("{what} must fail with one of {codes:?}"),
        Err(error) => {
            assert!(codes.contains(&error.code), "{what} must fail with one of {codes:?}, not {}: {error}", error.code);
            error
        }
    }
}
