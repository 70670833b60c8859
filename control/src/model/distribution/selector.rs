//! Which hosts a distribution goes to. Pure: chance is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::model::{
    HostName, Problem, ProblemCode, did_you_mean,
    word::{Label, Word},
};

/// What a request says of the hosts that it means, as clients write it. The service reads it with
/// [`Selector::from_json`], which names what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = HostSelector)]
pub struct SelectorBody {
    /// Only these hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Only hosts that have all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Only hosts in one of these racks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<String>,
    /// Of the hosts that are left, only so many of a hundred, by chance; at least one. 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub percent: Option<u8>,
}

/// Which hosts are meant: those that meet every condition that is there, and then a share of them.
///
/// As text (`--hosts`): conditions with commas between them, each a name, `rack=NAME`, `label.KEY=VALUE` or `N%`. Names
/// are alternatives to one another, and so are racks; labels must all be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// One of these; empty: any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<HostName>,
    /// With all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Word, Word>,
    /// In one of these racks; empty: in any or none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub racks: BTreeSet<Word>,
    /// So many of a hundred, 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// A host that could be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it is called.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<Word, Word>,
    /// Its rack.
    pub rack: Option<Word>,
    /// Whether its executor is there.
    pub is_up: bool,
}

const FIELDS: [&str; 4] = ["names", "labels", "racks", "percent"];
const WHAT_TO_SAY: &str = "say which hosts: names, labels, racks or percent (100 for all)";

impl Selector {
    /// Reads the field `hosts` of a request.
    pub fn from_json(value: &Value) -> Result<Self, Problem> {
        let Value::Object(map) = value else {
            return Err(Problem::invalid("hosts", format!("hosts must be an object; {WHAT_TO_SAY}")));
        };
        if let Some(unknown) = map.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let hint = did_you_mean(unknown, FIELDS);
            let detail = format!("unknown field hosts.{unknown}{hint} (known are {})", FIELDS.join(", "));
            return Err(Problem::new(ProblemCode::UnknownField, detail).at(format!("hosts.{unknown}")));
        }
        let selector = Self {
            names: list(map, "names")?.into_iter().collect(),
            labels: field(map, "labels", "an object of words")?.unwrap_or_default(),
            racks: list(map, "racks")?.into_iter().collect(),
            percent: field::<u8>(map, "percent", "a whole number from 1 to 100")?,
        };
        if selector.percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(Problem::invalid("hosts.percent", "hosts.percent must be a whole number from 1 to 100"));
        }
        if selector == Self::default() {
            return Err(Problem::invalid("hosts", WHAT_TO_SAY));
        }
        Ok(selector)
    }

    /// The hosts among `candidates` that are meant, in the order of their names. Hosts that are not up are meant only
    /// where they are named; a name that no candidate has is a problem.
    pub fn select(&self, candidates: &[Candidate], random: u64) -> Result<Vec<HostName>, Problem> {
        let known: BTreeSet<&HostName> = candidates.iter().map(|candidate| &candidate.name).collect();
        let unknown: Vec<&str> = self.names.iter().filter(|name| !known.contains(name)).map(HostName::as_str).collect();
        if !unknown.is_empty() {
            let why = "no executor there has joined; `staccato executors` lists those that have";
            let detail = format!("unknown hosts: {}: {why}", several(&unknown));
            return Err(Problem::new(ProblemCode::UnknownHost, detail).at("hosts.names"));
        }
        let mut meant: Vec<HostName> =
            candidates.iter().filter(|one| self.means(one)).map(|one| one.name.clone()).collect();
        if let Some(percent) = self.percent {
            let share = (meant.len() * usize::from(percent)).div_ceil(100);
            fastrand::Rng::with_seed(random).shuffle(&mut meant);
            meant.truncate(share);
        }
        meant.sort_unstable();
        if meant.is_empty() {
            let up = candidates.iter().filter(|candidate| candidate.is_up).count();
            let detail = format!(
                "no host is selected: none of {} ({up} of them up) meets all conditions; `staccato executors` shows names, \
                 racks and labels",
                candidates.len()
            );
            return Err(Problem::new(ProblemCode::NoHostSelected, detail).at("hosts"));
        }
        Ok(meant)
    }

    fn means(&self, candidate: &Candidate) -> bool {
        let named = self.names.contains(&candidate.name);
        (named || (self.names.is_empty() && candidate.is_up))
            && self.labels.iter().all(|(key, value)| candidate.labels.get(key) == Some(value))
            && (self.racks.is_empty() || candidate.rack.as_ref().is_some_and(|rack| self.racks.contains(rack)))
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut selector = Self::default();
        for condition in text.split(',').map(str::trim) {
            let refused = |why: String| format!("{condition:?}: {why}");
            if let Some(percent) = condition.strip_suffix('%') {
                let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent));
                let percent = percent.ok_or_else(|| refused("a share is written 1% to 100%".into()))?;
                if selector.percent.replace(percent).is_some() {
                    return Err(refused("there is one share".into()));
                }
            } else if let Some(rack) = condition.strip_prefix("rack=") {
                selector.racks.insert(rack.parse().map_err(refused)?);
            } else if let Some(label) = condition.strip_prefix("label.") {
                let Label { key, value } = label.parse().map_err(refused)?;
                if selector.labels.insert(key, value).is_some() {
                    return Err(refused("a label has one value".into()));
                }
            } else if condition.contains('=') {
                return Err(refused("write rack=NAME, or label.KEY=VALUE".into()));
            } else {
                selector.names.insert(condition.parse().map_err(refused)?);
            }
        }
        Ok(selector)
    }
}

/// Some names for a sentence.
pub fn several<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A field that may be absent or null.
fn field<T: serde::de::DeserializeOwned>(
    map: &Map<String, Value>,
    name: &str,
    what: &str,
) -> Result<Option<T>, Problem> {
    let Some(value) = map.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    serde_json::from_value(value.clone())
        .map(Some)
        .map_err(|error| Problem::invalid(format!("hosts.{name}"), format!("hosts.{name} must be {what}: {error}")))
}

/// A list of words; one that is empty would mean nobody, and is taken for a mistake.
fn list<T: serde::de::DeserializeOwned>(map: &Map<String, Value>, name: &str) -> Result<Vec<T>, Problem> {
    let found: Option<Vec<T>> = field(map, name, "a list of names")?;
    match found {
        Some(list) if list.is_empty() => {
            Err(Problem::invalid(format!("hosts.{name}"), format!("hosts.{name} is empty; leave it out for all")))
        }
        found => Ok(found.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn candidates() -> Vec<Candidate> {
        (0..10)
            .map(|number| Candidate {
                name: format!("h{number}").parse().unwrap(),
                labels: [("gpu".parse().unwrap(), if number % 2 == 0 { "yes" } else { "no" }.parse().unwrap())].into(),
                rack: (number < 8).then(|| format!("r{}", number / 4).parse().unwrap()),
                is_up: number != 3,
            })
            .collect()
    }

    fn selected(text: &str) -> String {
        match text.parse::<Selector>().unwrap().select(&candidates(), 7) {
            Ok(names) => names.iter().map(HostName::as_str).collect::<Vec<_>>().join(" "),
            Err(problem) => problem.code.to_string(),
        }
    }

    #[test]
    fn hosts_must_meet_every_condition() {
        for (text, hosts) in [
            ("h1,h2", "h1 h2"),
            ("h3", "h3"),
            ("rack=r0", "h0 h1 h2"),
            ("rack=r0,rack=r1", "h0 h1 h2 h4 h5 h6 h7"),
            ("rack=r1,label.gpu=yes", "h4 h6"),
            ("h1,h4,h5,rack=r1", "h4 h5"),
            ("100%", "h0 h1 h2 h4 h5 h6 h7 h8 h9"),
            ("rack=r9", "no_host_selected"),
            ("h1,label.gpu=yes", "no_host_selected"),
            ("h1,h99", "unknown_host"),
        ] {
            assert_eq!(selected(text), hosts, "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_up_and_taken_by_chance() {
        let count = |text: &str| selected(text).split(' ').count();
        assert_eq!((count("1%"), count("25%"), count("34%"), count("100%,rack=r0")), (1, 3, 4, 3));
        let share: Selector = "30%".parse().unwrap();
        let of = |random| share.select(&candidates(), random).unwrap();
        assert_eq!(of(1), of(1));
        assert!((2..30).any(|random| of(random) != of(1)), "another chance, another share");
    }

    #[test]
    fn text_and_json_say_the_same() {
        let text: Selector = "h1, h2,rack=a,label.gpu=yes,5%".parse().unwrap();
        let json = json!({"names": ["h1", "h2"], "racks": ["a"], "labels": {"gpu": "yes"}, "percent": 5});
        assert_eq!(Selector::from_json(&json).unwrap(), text);
        assert_eq!(serde_json::to_value(&text).unwrap(), json);
        for text in
            ["", "h1,", "H1", "0%", "101%", "5%,6%", "x=y", "rack=", "rack=a b", "label.a", "label.a=b,label.a=c"]
        {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, code, field) in [
            (json!([]), "invalid_field", "hosts"),
            (json!({}), "invalid_field", "hosts"),
            (json!({"names": null}), "invalid_field", "hosts"),
            (json!({"name": ["a"]}), "unknown_field", "hosts.name"),
            (json!({"names": []}), "invalid_field", "hosts.names"),
            (json!({"names": ["A"]}), "invalid_field", "hosts.names"),
            (json!({"racks": "a"}), "invalid_field", "hosts.racks"),
            (json!({"labels": {"a": 1}}), "invalid_field", "hosts.labels"),
            (json!({"percent": 0}), "invalid_field", "hosts.percent"),
            (json!({"percent": 1.5}), "invalid_field", "hosts.percent"),
        ] {
            let problem = Selector::from_json(&json).unwrap_err();
            assert_eq!((problem.code.as_str(), problem.field.as_deref()), (code, Some(field)), "{json}");
        }
        let detail = Selector::from_json(&json!({"rack": ["a"]})).unwrap_err().detail;
        assert!(detail.contains("did you mean racks?"), "{detail}");
    }

    #[test]
    fn a_sentence_names_some_of_many() {
        let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(several(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(several(&names[..2]), "0, 1");
    }
}
