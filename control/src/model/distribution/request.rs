//! What a client may ask for. A [`DistributionRequest`] can only be made valid; nothing behind it checks again.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use staccato_dataplane::attempt::Part;
use staccato_protocols::{ObjectUrl, Options};
use utoipa::ToSchema;

use crate::model::{
    CreateRequest, HostName, Place, Priority, Problem, ProblemCode, Timestamp, did_you_mean,
    request::{Catalogue, FIELDS as TRANSFER_FIELDS, Fields, Way},
};

use super::{
    Candidate, MEMBERS_MAX, Selector, SourceBudget, UploadLimits,
    selector::{SelectorBody, several},
};

/// What stands for the name of a host in `destination_url`.
pub const HOST: &str = "{host}";
/// Longest name of a distribution, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest URL of a member's destination, in bytes.
pub const DESTINATION_BYTES_MAX: usize = 2048;
/// Longest time until `deadline`.
pub const DEADLINE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// `priority` of what nobody waits for, unless told.
pub const PREHEAT_PRIORITY: Priority = Priority::new(1).expect("it is between 0 and 9");

/// Which hosts there are, besides what storage there is.
pub trait Hosts: Catalogue {
    /// All hosts that could be meant.
    fn candidates(&self) -> Vec<Candidate>;

    /// Where the object of a URL is.
    fn place(&self, url: &ObjectUrl) -> Result<Place, Problem>;

    /// What a place is called, if it is a host.
    fn name_of(&self, place: &Place) -> Option<HostName>;
}

/// The body of `POST /v1/distributions`, as clients write it. The service reads it with
/// [`DistributionRequest::from_json`], which names what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct DistributionBody {
    /// Where the object is: an absolute URL of a scheme on offer.
    pub source_url: String,
    /// Where it shall be on every host: a URL with `{host}` where the host's name belongs. With `hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_url: Option<String>,
    /// Which hosts. With `destination_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<SelectorBody>,
    /// Instead of both: a URL for each host, on hosts that differ; 1 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_urls: Option<Vec<String>>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many times the object may be read from its source, 1.0 to 1,000. 2.0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub source_budget: Option<f64>,
    /// When more hosts have failed than this, the rest is canceled. Any number may when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub max_failures: Option<u64>,
    /// What is not complete by then is canceled: RFC 3339, for instance 2030-01-31T12:00:00Z; at most 366 days ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Whether the hosts do not need the object yet: `priority` is 1 then, unless told, and they show it to hosts of later
    /// distributions of the same object as long as this one is there. `false` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preheat: Option<bool>,
    /// Most bytes per second that each host sends to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub upload_limit: Option<u64>,
    /// Most bytes per second that all hosts of a rack send to others together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub rack_upload_limit: Option<u64>,
    /// 0, or absent: a distribution is of the whole object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub start_offset: Option<u64>,
    /// -1, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub end_offset: Option<i64>,
    /// As of a transfer.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub source_options: Options,
    /// As of a transfer, for each destination.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub destination_options: Options,
    /// As of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<String>,
    /// As of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// As of a transfer, for each member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
    /// As of a transfer, for each member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 10000)]
    pub retries: Option<u32>,
    /// As of a transfer, for each member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub rate_limit: Option<u64>,
    /// As of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1048576, maximum = 67108864)]
    pub chunk_size: Option<u64>,
    /// As of a transfer, for each member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub connections: Option<u32>,
    /// As of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// As of a transfer, for each member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1048576)]
    pub window: Option<u64>,
}

/// The fields of a body that are not those of a transfer.
const FIELDS: [&str; 9] = [
    "hosts",
    "destination_urls",
    "name",
    "source_budget",
    "max_failures",
    "deadline",
    "preheat",
    "upload_limit",
    "rack_upload_limit",
];
/// The fields that say which hosts a distribution goes to.
pub const HOSTS_FIELDS: [&str; 2] = ["hosts", "destination_urls"];

/// A distribution to be created, checked against the syntax and policy of the protocols and hosts it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributionRequest {
    /// The transfer to the first of the hosts; the others differ in their destination only.
    pub first: CreateRequest,
    /// Where the object shall be: 1 to [`MEMBERS_MAX`], on hosts that differ.
    pub targets: Vec<Target>,
    /// The destination with `{host}` in it; none where destinations were listed.
    pub template: Option<String>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// How many times the object may be read from its source.
    pub source_budget: SourceBudget,
    /// More failures than this, and the rest is canceled.
    pub max_failures: Option<u64>,
    /// What is not complete by then is canceled.
    pub deadline: Option<Timestamp>,
    /// Whether nobody waits for it.
    pub preheat: bool,
    /// How fast hosts may send to one another.
    pub uploads: UploadLimits,
}

/// Where one member shall write. On a host, so that its URL has no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The host; the service's own has no name here.
    #[serde(rename = "h")]
    pub host: String,
    /// The object there.
    #[serde(rename = "u")]
    pub url: ObjectUrl,
}

impl DistributionRequest {
    /// Reads a body and checks it with what `hosts` knows. A field that is `null` counts as absent.
    pub fn from_json(body: &Value, hosts: &impl Hosts, now: Timestamp, random: u64) -> Result<Self, Problem> {
        let Value::Object(map) = body else {
            return Err(Problem::new(ProblemCode::InvalidField, "the body must be a JSON object"));
        };
        check_names(map, &[&TRANSFER_FIELDS[..], &FIELDS].concat())?;
        let fields = Fields(map);
        let preheat = fields.flag("preheat")?.unwrap_or_default();
        let (template, wanted) = Wanted::of(&fields, fields.text("destination_url")?)?;
        let source = fields.url("source_url")?;
        let targets = wanted.targets(hosts, Some(&source), random)?;

        let mut transfer: Map<String, Value> = map.clone();
        transfer.retain(|name, _| !FIELDS.contains(&name.as_str()));
        transfer.insert("destination_url".into(), targets[0].url.as_str().into());
        if preheat && fields.get("priority").is_none() {
            transfer.insert("priority".into(), PREHEAT_PRIORITY.get().into());
        }
        let first = CreateRequest::from_json(&Value::Object(transfer), hosts);
        let options = fields.options("destination_options")?;
        let first = first.map_err(|problem| wanted.at_fault(of_all(problem, &targets, &options, hosts)))?;
        if first.part != Part::default() {
            let field = if first.part.start > 0 { "start_offset" } else { "end_offset" };
            let detail = "a distribution is of the whole object; leave start_offset and end_offset out";
            return Err(Problem::invalid(field, detail));
        }
        check_others(first.way(), &targets[1..], hosts).map_err(|problem| wanted.at_fault(problem))?;
        Ok(Self {
            first,
            targets,
            template: template.map(str::to_owned),
            name: fields.name()?,
            source_budget: fields.source_budget()?,
            max_failures: fields.number("max_failures", 0, u64::MAX)?,
            deadline: fields.deadline(now)?,
            preheat,
            uploads: UploadLimits {
                each: fields.number("upload_limit", 1, u64::MAX)?,
                rack: fields.number("rack_upload_limit", 1, u64::MAX)?,
            },
        })
    }
}

/// Reads a body that names further hosts for a distribution, and checks them with what `hosts` knows; `template` is the
/// destination that was asked for with `{host}` in it.
pub fn further_targets(
    body: &Value,
    hosts: &impl Hosts,
    way: Way<'_>,
    template: Option<&str>,
    random: u64,
) -> Result<Vec<Target>, Problem> {
    let Value::Object(map) = body else {
        return Err(Problem::new(ProblemCode::InvalidField, "the body must be a JSON object"));
    };
    check_names(map, &HOSTS_FIELDS)?;
    let fields = Fields(map);
    if template.is_none() && fields.get("hosts").is_some() {
        let detail = "the distribution was made with a list of destinations; name further ones in destination_urls";
        return Err(Problem::invalid("hosts", detail));
    }
    let template = if fields.get("destination_urls").is_some() { None } else { template };
    let (_, wanted) = Wanted::of(&fields, template)?;
    let targets = wanted.targets(hosts, Some(way.source_url), random)?;
    check_others(way, &targets, hosts).map_err(|problem| wanted.at_fault(problem))?;
    Ok(targets)
}

/// A problem that hosts have, in the words of the first of them, which may not be the only one.
pub fn of_hosts(failed: &[(HostName, Problem)], all: usize) -> Result<(), Problem> {
    let Some((_, first)) = failed.first() else { return Ok(()) };
    if all == 1 {
        return Err(first.clone());
    }
    let names: Vec<&str> = failed.iter().map(|(host, _)| host.as_str()).collect();
    let detail = format!("{} of {all} hosts cannot be written to ({}): {}", names.len(), several(&names), first.detail);
    Err(Problem { detail, ..first.clone() })
}

/// A problem that the first of these has, with the others that have one.
fn of_all(problem: Problem, targets: &[Target], options: &Options, hosts: &impl Hosts) -> Problem {
    let name = |target: &Target| hosts.name_of(&hosts.place(&target.url).ok()?);
    let failed = targets.iter().filter(|target| hosts.destination(&target.url, options).is_err());
    let failed: Vec<_> = failed.filter_map(|target| Some((name(target)?, problem.clone()))).collect();
    of_hosts(&failed, targets.len()).err().unwrap_or(problem)
}

/// Whether the object may go to each of these.
fn check_others(way: Way<'_>, others: &[Target], hosts: &impl Hosts) -> Result<(), Problem> {
    let mut failed = Vec::new();
    for target in others {
        if let Err(problem) = way.check_destination(&target.url, hosts) {
            let place = hosts.place(&target.url)?;
            failed.extend(hosts.name_of(&place).map(|name| (name, problem)));
        }
    }
    of_hosts(&failed, others.len() + 1)
}

fn check_names(map: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    let unknown: Vec<&str> = map.keys().map(String::as_str).filter(|name| !known.contains(name)).take(8).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let hint = did_you_mean(first, known.iter().copied());
    let detail = format!("unknown field {}{hint} (known are {})", unknown.join(", "), known.join(", "));
    Err(Problem::new(ProblemCode::UnknownField, detail).at(*first))
}

/// Where the object is wanted.
enum Wanted<'a> {
    /// On each of these hosts, at a URL that this makes with their names.
    Hosts { template: &'a str, selector: Selector },
    /// At each of these URLs.
    Urls(Vec<&'a str>),
}

impl<'a> Wanted<'a> {
    /// Reads it, with `destination_url` as it is or was.
    fn of(fields: &Fields<'a>, template: Option<&'a str>) -> Result<(Option<&'a str>, Self), Problem> {
        match (fields.get("destination_urls"), template, fields.get("hosts")) {
            (Some(_), Some(_), _) => {
                let detail = "give destination_url with hosts, or destination_urls; not both";
                Err(Problem::invalid("destination_urls", detail))
            }
            (Some(_), None, Some(_)) => {
                let detail = "destination_urls name their hosts themselves; leave hosts out";
                Err(Problem::invalid("hosts", detail))
            }
            (Some(urls), None, None) => Ok((None, Self::Urls(list_of_urls(urls)?))),
            (None, Some(template), Some(selector)) => {
                Ok((Some(template), Self::Hosts { template, selector: Selector::from_json(selector)? }))
            }
            (None, Some(_), None) => {
                let detail = "hosts is required beside destination_url: which hosts {host} stands for";
                Err(Problem::new(ProblemCode::MissingField, detail).at("hosts"))
            }
            (None, None, _) => {
                let detail = "destination_url (with hosts) or destination_urls is required";
                Err(Problem::new(ProblemCode::MissingField, detail).at("destination_url"))
            }
        }
    }

    /// The field at fault.
    fn field(&self, number: usize) -> String {
        match self {
            Self::Hosts { .. } => "destination_url".into(),
            Self::Urls(_) => format!("destination_urls[{number}]"),
        }
    }

    /// A problem of one transfer as one of the whole request.
    fn at_fault(&self, problem: Problem) -> Problem {
        match problem.field.as_deref() {
            Some("destination_url") if matches!(self, Self::Urls(_)) => problem.at("destination_urls"),
            _ => problem,
        }
    }

    /// A destination on each host. A host where the source itself would be the destination is left out, unless it was
    /// named.
    fn targets(&self, hosts: &impl Hosts, source: Option<&ObjectUrl>, random: u64) -> Result<Vec<Target>, Problem> {
        let (names, urls): (Vec<Option<HostName>>, Vec<String>) = match self {
            Self::Urls(urls) => urls.iter().map(|url| (None, (*url).to_owned())).unzip(),
            Self::Hosts { template, selector } => {
                let selected = selector.select(&hosts.candidates(), random)?;
                if !template.contains(HOST) {
                    let detail = format!(
                        "{} hosts are selected, and the destination names none of them: write {HOST} where the host's \
                         name belongs, for instance file://{HOST}/var/lib/images/x",
                        selected.len()
                    );
                    return Err(Problem::invalid("destination_url", detail));
                }
                selected.into_iter().map(|name| (Some(name.clone()), template.replace(HOST, name.as_str()))).unzip()
            }
        };
        let is_named = matches!(self, Self::Hosts { selector, .. } if !selector.names.is_empty());
        let may_leave_out = matches!(self, Self::Hosts { .. }) && !is_named;
        let from = source.and_then(|source| Some((hosts.place(source).ok()?, source.without_host())));
        let (mut targets, mut seen) = (Vec::with_capacity(urls.len()), BTreeSet::new());
        for (number, (name, text)) in names.into_iter().zip(urls).enumerate() {
            let at = |problem: Problem| problem.at(self.field(number));
            if text.len() > DESTINATION_BYTES_MAX {
                let detail = format!("a destination has at most {DESTINATION_BYTES_MAX} bytes");
                return Err(Problem::invalid(self.field(number), detail));
            }
            let url = ObjectUrl::parse(&text).map_err(|error| Problem::protocol(self.field(number), error))?;
            let place = hosts.place(&url).map_err(at)?;
            let found = hosts.name_of(&place).ok_or_else(|| {
                let detail = format!("{} is on no host; write for instance file://HOST/path", url.redacted());
                Problem::invalid(self.field(number), detail)
            })?;
            if name.as_ref().is_some_and(|name| *name != found) {
                let detail =
                    format!("{} is not on the host that was selected; write file://{HOST}/path", url.redacted());
                return Err(Problem::invalid(self.field(number), detail));
            }
            if !seen.insert(found.clone()) {
                let detail = format!("the host {found} is named twice, and has one destination in a distribution");
                return Err(Problem::invalid(self.field(number), detail));
            }
            if may_leave_out && from.as_ref().is_some_and(|(at, source)| *at == place && *source == url.without_host())
            {
                continue;
            }
            targets.push(Target { host: place.host().unwrap_or_default().to_owned(), url });
        }
        if targets.is_empty() {
            let detail = "the only host that is selected has the object at this very place";
            return Err(Problem::new(ProblemCode::NoHostSelected, detail).at("hosts"));
        }
        Ok(targets)
    }
}

fn list_of_urls(value: &Value) -> Result<Vec<&str>, Problem> {
    let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    let texts = texts.ok_or_else(|| Problem::invalid("destination_urls", "destination_urls must be a list of URLs"))?;
    if texts.is_empty() || texts.len() > MEMBERS_MAX {
        let detail = format!("destination_urls has {} URLs; send 1 to {MEMBERS_MAX}", texts.len());
        return Err(Problem::invalid("destination_urls", detail));
    }
    Ok(texts)
}

impl Fields<'_> {
    fn name(&self) -> Result<Option<String>, Problem> {
        let Some(name) = self.text("name")? else { return Ok(None) };
        if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control) {
            return Ok(Some(name.to_owned()));
        }
        let detail = format!("name has 1 to {NAME_BYTES_MAX} bytes and no control characters");
        Err(Problem::invalid("name", detail))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| Problem::invalid(name, format!("{name} must be true or false")))
    }

    fn source_budget(&self) -> Result<SourceBudget, Problem> {
        let Some(value) = self.get("source_budget") else { return Ok(SourceBudget::default()) };
        value.as_f64().and_then(SourceBudget::new).ok_or_else(|| {
            Problem::invalid("source_budget", "source_budget must be a number from 1.0 to 1000 (times the object)")
        })
    }

    fn deadline(&self, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text("deadline")? else { return Ok(None) };
        let time = humantime::parse_rfc3339_weak(text).map(Timestamp::from_system).map_err(|_| {
            Problem::invalid("deadline", format!("{text:?} is no time; write for instance 2030-01-31T12:00:00Z"))
        })?;
        if time <= now || time > now.after(DEADLINE_MAX) {
            let detail = format!("the deadline must lie ahead, at most 366 days; now it is {now}");
            return Err(Problem::invalid("deadline", detail));
        }
        Ok(Some(time))
    }
}
