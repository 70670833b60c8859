//! What a client may ask for. A [`CreateRequest`] can only be made valid; nothing behind it checks again.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use staccato_dataplane::attempt::{Checksum, Part, TransportChoice};
use staccato_protocols::{CRC_BLOCK, ObjectUrl, Options, Registry, contract::Overwrite};
use utoipa::ToSchema;

use super::{Place, Problem, ProblemCode, did_you_mean};

/// Which storage there is, and where.
pub trait Catalogue {
    /// Where the object of a URL is, if it can be read there with these options. A problem's field is the option at fault, or
    /// empty.
    fn source(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem>;

    /// Where the object of a URL shall be, if it can be written there with these options.
    fn destination(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem>;

    /// Whether bytes can come from one place to another.
    fn check_way(&self, _source: &Place, _destination: &Place) -> Result<(), Problem> {
        Ok(())
    }
}

/// Protocols of the service's own host, and no other host.
impl Catalogue for Registry {
    fn source(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem> {
        self.source(url, options).map_err(|error| Problem::protocol("", error))?;
        Ok(if url.scheme() == "file" { Place::Here } else { Place::Anywhere })
    }

    fn destination(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem> {
        self.destination(url, options).map_err(|error| Problem::protocol("", error))?;
        Ok(if url.scheme() == "file" { Place::Here } else { Place::Anywhere })
    }
}

/// Most bytes of all names and values of both sides' options together.
pub const OPTIONS_BYTES_MAX: usize = 16 << 10;
/// Most options of one side.
pub const OPTIONS_MAX: usize = 64;
/// Largest `retries`.
pub const RETRIES_MAX: u32 = 10_000;
/// `retries` unless told.
pub const RETRIES_DEFAULT: u32 = 5;
/// Most `connections`.
pub const CONNECTIONS_MAX: u32 = 1024;
/// Largest `chunk_size`, in bytes.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// A transfer to be created, checked against the syntax and policy of the protocols it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreateRequest {
    /// Where the object is.
    pub source_url: ObjectUrl,
    /// Where it shall be.
    pub destination_url: ObjectUrl,
    /// On which host the source is.
    pub source_place: Place,
    /// On which host the destination shall be.
    pub destination_place: Place,
    /// Options of the source, secrets included.
    pub source_options: Options,
    /// Options of the destination, secrets included.
    pub destination_options: Options,
    /// Which part of the source is wanted.
    pub part: Part,
    /// What to do with an object that is at the destination already.
    pub overwrite: Overwrite,
    /// A checksum the part must have.
    pub checksum: Option<Checksum>,
    /// Its place in the queue.
    pub priority: Priority,
    /// Further attempts after retryable failures, at most [`RETRIES_MAX`].
    pub retries: u32,
    /// Most bytes per second, at least 1.
    pub rate_limit: Option<u64>,
    /// Bytes per chunk: a multiple of the CRC block, at most [`CHUNK_BYTES_MAX`].
    pub chunk_size: Option<u64>,
    /// Connections to a source behind a network, 1 to [`CONNECTIONS_MAX`].
    pub connections: Option<u32>,
    /// How bytes cross the network between two executors.
    pub transport: TransportChoice,
    /// Most bytes under way at a time, at least one CRC block.
    pub window: Option<u64>,
}

/// A place in the queue: 9 goes first, 0 last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// Goes first.
    pub const MAX: Self = Self(9);

    /// A priority from 0 to 9; nothing beyond.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u8> for Priority {
    type Error = &'static str;
    fn try_from(value: u8) -> Result<Self, Self::Error> {
        Self::new(value).ok_or("a priority is a number from 0 to 9")
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// The body of `POST /v1/transfers`, as clients write it. The service reads it with [`CreateRequest::from_json`], which
/// names what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct TransferBody {
    /// Where the object is: an absolute URL of a scheme on offer.
    pub source_url: String,
    /// Where it shall be: an absolute URL of a scheme on offer.
    pub destination_url: String,
    /// First byte of the source that is wanted; it goes to offset 0 of the destination. 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub start_offset: Option<u64>,
    /// The byte behind the last one that is wanted; the end of the object when absent or -1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub end_offset: Option<i64>,
    /// Options of the source's protocol.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub source_options: Options,
    /// Options of the destination's protocol.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub destination_options: Options,
    /// `never` (default): an object at the destination is an error. `always`: it is replaced at commit. `repair`: like
    /// `always`, but only blocks that differ are moved, from sources that can tell (files, here and at other executors;
    /// everything is moved from `http` and `https`); an object that is right already stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<String>,
    /// `sha256|sha512|md5|crc32|crc32c`, a colon and the digest in hex: what the moved bytes must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// 0 to 9, 9 goes first. 5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
    /// Further attempts after failures that a later try may not meet. 5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 10000)]
    pub retries: Option<u32>,
    /// Most bytes per second to read from the source. A clone (FICLONE) reads none and is not slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub rate_limit: Option<u64>,
    /// Bytes per chunk, a multiple of 1 MiB, at most 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1048576, maximum = 67108864)]
    pub chunk_size: Option<u64>,
    /// Connections to a source that is read over a network, 1 to 1,024; memory may allow fewer. Without, as many are
    /// used as bring something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub connections: Option<u32>,
    /// How bytes cross the network between two executors: `quic`, `tcp`, or `auto` (default), which goes by what was measured
    /// between the two hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Most bytes under way at a time, at least 1 MiB. Without, as many as memory allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1048576)]
    pub window: Option<u64>,
}

/// The fields of a body, in the order of [`TransferBody`].
pub(super) const FIELDS: [&str; 15] = [
    "source_url",
    "destination_url",
    "start_offset",
    "end_offset",
    "source_options",
    "destination_options",
    "overwrite",
    "checksum",
    "priority",
    "retries",
    "rate_limit",
    "chunk_size",
    "connections",
    "transport",
    "window",
];

impl CreateRequest {
    /// Reads a body and checks it with what `catalogue` knows. A field that is `null` counts as absent.
    pub fn from_json(body: &Value, catalogue: &impl Catalogue) -> Result<Self, Problem> {
        let Value::Object(map) = body else {
            return Err(Problem::new(ProblemCode::InvalidField, "the body must be a JSON object"));
        };
        let unknown: Vec<&str> = map.keys().map(String::as_str).filter(|name| !FIELDS.contains(name)).take(8).collect();
        if let Some(first) = unknown.first() {
            let hint = did_you_mean(first, FIELDS);
            let detail = format!("unknown field {}{hint} (known are {})", unknown.join(", "), FIELDS.join(", "));
            return Err(Problem::new(ProblemCode::UnknownField, detail).at(*first));
        }
        let fields = Fields(map);
        let source_url = fields.url("source_url")?;
        let destination_url = fields.url("destination_url")?;
        let source_options = fields.options("source_options")?;
        let destination_options = fields.options("destination_options")?;
        let bytes: usize = [&source_options, &destination_options]
            .into_iter()
            .flatten()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > OPTIONS_BYTES_MAX {
            let detail = format!("the options have {bytes} bytes; at most {OPTIONS_BYTES_MAX} are accepted");
            return Err(Problem::invalid("source_options", detail));
        }
        let request = Self {
            source_place: catalogue
                .source(&source_url, &source_options)
                .map_err(|problem| side("source_url", "source_options", problem))?,
            destination_place: catalogue
                .destination(&destination_url, &destination_options)
                .map_err(|problem| side("destination_url", "destination_options", problem))?,
            part: fields.part()?,
            overwrite: fields.overwrite()?,
            checksum: fields.checksum()?,
            priority: fields
                .number("priority", 0, u64::from(Priority::MAX.0))?
                .map_or_else(Priority::default, |value| Priority(value as u8)),
            retries: fields.number("retries", 0, u64::from(RETRIES_MAX))?.map_or(RETRIES_DEFAULT, |value| value as u32),
            rate_limit: fields.number("rate_limit", 1, u64::MAX)?,
            chunk_size: fields.chunk_size()?,
            connections: fields.number("connections", 1, u64::from(CONNECTIONS_MAX))?.map(|value| value as u32),
            transport: fields.transport()?,
            window: fields.number("window", CRC_BLOCK, u64::MAX)?,
            source_url,
            destination_url,
            source_options,
            destination_options,
        };
        request.way().check_to(&request.destination_url, &request.destination_place, catalogue)?;
        Ok(request)
    }

    /// What a further destination would have in common with this one.
    pub fn way(&self) -> Way<'_> {
        Way {
            source_url: &self.source_url,
            source_place: &self.source_place,
            destination_options: &self.destination_options,
        }
    }
}

/// What transfers of one object to several destinations have in common, as far as that decides where it may go.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Where the object is.
    pub source_url: &'a ObjectUrl,
    /// On which host that is.
    pub source_place: &'a Place,
    /// Options of each destination, secrets included.
    pub destination_options: &'a Options,
}

impl Way<'_> {
    /// Whether this could be a destination.
    pub fn check_destination(&self, url: &ObjectUrl, catalogue: &impl Catalogue) -> Result<(), Problem> {
        let place = catalogue
            .destination(url, self.destination_options)
            .map_err(|problem| side("destination_url", "destination_options", problem))?;
        self.check_to(url, &place, catalogue)
    }

    fn check_to(&self, url: &ObjectUrl, place: &Place, catalogue: &impl Catalogue) -> Result<(), Problem> {
        catalogue.check_way(self.source_place, place).map_err(|problem| problem.at("source_url"))?;
        let object = |url: &ObjectUrl| match place {
            Place::Anywhere => url.url().clone(),
            _ => url.without_host().url().clone(),
        };
        if self.source_place == place && object(self.source_url) == object(url) {
            return Err(Problem::invalid("destination_url", "source and destination are the same object"));
        }
        Ok(())
    }
}

/// A problem of one end of a transfer, with the field at fault: that of its URL, or that of its options.
fn side(url: &str, options: &str, problem: Problem) -> Problem {
    if let Some(option) = problem.field.as_deref().filter(|option| !option.is_empty()) {
        let field = format!("{options}.{option}");
        return problem.at(field);
    }
    let options_are_wrong = problem.code == ProblemCode::Protocol(staccato_protocols::Code::InvalidOption);
    problem.at(if options_are_wrong { options } else { url })
}

/// The fields of one body, read one by one.
pub(super) struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| Problem::invalid(name, format!("{name} must be a string")))?;
        Ok(Some(text))
    }

    pub fn url(&self, name: &str) -> Result<ObjectUrl, Problem> {
        let text = self
            .text(name)?
            .ok_or_else(|| Problem::new(ProblemCode::MissingField, format!("{name} is required")).at(name))?;
        ObjectUrl::parse(text).map_err(|error| Problem::protocol(name, error))
    }

    pub fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
            let bound = if max == u64::MAX { String::new() } else { format!(" to {max}") };
            Problem::invalid(name, format!("{name} must be a whole number from {min}{bound}"))
        })?;
        Ok(Some(number))
    }

    pub fn options(&self, name: &str) -> Result<Options, Problem> {
        let Some(value) = self.get(name) else { return Ok(Options::new()) };
        let Value::Object(map) = value else {
            return Err(Problem::invalid(name, format!("{name} must be an object of strings")));
        };
        if map.len() > OPTIONS_MAX {
            return Err(Problem::invalid(name, format!("{name} has {} names; at most {OPTIONS_MAX}", map.len())));
        }
        let mut options = Options::new();
        for (option, value) in map {
            let field = || format!("{name}.{option}");
            let text = value.as_str().ok_or_else(|| Problem::invalid(field(), "the value must be a string"))?;
            // Certificates in PEM have lines; where a line break means something else, modules refuse it.
            let refused = |char: char| char.is_control() && !matches!(char, '\n' | '\r');
            if option.contains(char::is_control) || text.contains(refused) {
                return Err(Problem::invalid(field(), "control characters are not accepted"));
            }
            options.insert(option.clone(), text.to_owned());
        }
        Ok(options)
    }

    fn part(&self) -> Result<Part, Problem> {
        // Offsets are signed 64-bit numbers to old clients and to the kernel.
        let max = i64::MAX as u64;
        let start = self.number("start_offset", 0, max)?.unwrap_or(0);
        let to_the_end = self.get("end_offset").and_then(Value::as_i64) == Some(-1);
        let end = if to_the_end { None } else { self.number("end_offset", 0, max)? };
        match end {
            Some(end) if end < start => {
                Err(Problem::invalid("end_offset", format!("the part ends at {end}, before its start at {start}")))
            }
            _ => Ok(Part { start, end }),
        }
    }

    fn overwrite(&self) -> Result<Overwrite, Problem> {
        match self.text("overwrite")? {
            None | Some("never") => Ok(Overwrite::Never),
            Some("always") => Ok(Overwrite::Always),
            Some("repair") => Ok(Overwrite::Repair),
            Some(other) => Err(Problem::invalid("overwrite", format!("{other:?} is not one of never, always, repair"))),
        }
    }

    fn transport(&self) -> Result<TransportChoice, Problem> {
        let parsed = self.text("transport")?.map(str::parse).transpose();
        Ok(parsed.map_err(|why| Problem::invalid("transport", why))?.unwrap_or_default())
    }

    fn checksum(&self) -> Result<Option<Checksum>, Problem> {
        let Some(text) = self.text("checksum")? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: staccato_protocols::Error| Problem::invalid("checksum", error.message))
    }

    fn chunk_size(&self) -> Result<Option<u64>, Problem> {
        let size = self.number("chunk_size", CRC_BLOCK, CHUNK_BYTES_MAX)?;
        match size {
            Some(size) if !size.is_multiple_of(CRC_BLOCK) => {
                Err(Problem::invalid("chunk_size", format!("chunk_size must be a multiple of {CRC_BLOCK}")))
            }
            _ => Ok(size),
        }
    }
}
