use std::time::Duration;

use serde_json::{Value, json};
use staccato_protocols::{
    ObjectUrl, Options, Registry,
    synthetic::{NullProtocol, ZeroProtocol},
};

use super::{
    request::{PREHEAT_PRIORITY, further_targets},
    *,
};
use crate::model::{HostName, Place, Problem, request::Catalogue};

/// Five hosts, `own` among them, of which `h4` may not be written to, and is not up.
struct World(Registry);

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

impl World {
    fn new() -> Self {
        Self(Registry::new().with(ZeroProtocol).with(NullProtocol))
    }

    fn ask(&self, body: &Value) -> Result<DistributionRequest, Problem> {
        DistributionRequest::from_json(body, self, NOW, 1)
    }
}

impl Catalogue for World {
    fn source(&self, url: &ObjectUrl, _: &Options) -> Result<Place, Problem> {
        self.place(url)
    }

    fn destination(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem> {
        if url.host() == Some("h4") {
            return Err(Problem::protocol(
                "",
                staccato_protocols::Error::fatal(staccato_protocols::Code::PathOutsideRoots, "it has no such root"),
            ));
        }
        self.0.destination(&url.without_host(), options).map_err(|error| Problem::protocol("", error))?;
        self.place(url)
    }
}

impl Hosts for World {
    fn candidates(&self) -> Vec<Candidate> {
        ["h1", "h2", "h3", "h4", "own"]
            .map(|name| Candidate {
                name: name.parse().unwrap(),
                labels: Default::default(),
                rack: Some(if name == "own" { "r0" } else { "r1" }.parse().unwrap()),
                is_up: name != "h4",
            })
            .into()
    }

    fn place(&self, url: &ObjectUrl) -> Result<Place, Problem> {
        Ok(match url.host() {
            None => Place::Anywhere,
            Some("own") => Place::Here,
            Some(host) if host.starts_with('h') => Place::Host(host.parse().unwrap()),
            Some(host) => {
                return Err(Problem::new(crate::model::ProblemCode::UnknownHost, format!("{host} is not known")));
            }
        })
    }

    fn name_of(&self, place: &Place) -> Option<HostName> {
        match place {
            Place::Anywhere => None,
            Place::Here => Some("own".parse().unwrap()),
            Place::Host(name) => Some(name.clone()),
        }
    }
}

/// A body with these fields more, or (null) less.
fn body(more: Value) -> Value {
    let mut body = json!({
        "source_url": "zero:///5", "destination_url": "null://{host}/x", "hosts": {"names": ["h1", "h2", "own"]},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_template_leads_to_every_selected_host() {
    let wanted = World::new().ask(&body(json!({}))).unwrap();
    let urls: Vec<_> = wanted.targets.iter().map(|target| (target.host.as_str(), target.url.as_str())).collect();
    assert_eq!(urls, [("h1", "null://h1/x"), ("h2", "null://h2/x"), ("", "null://own/x")]);
    assert_eq!(wanted.first.destination_url.as_str(), "null://h1/x");
    assert_eq!(wanted.template.as_deref(), Some("null://{host}/x"));
    assert_eq!((wanted.source_budget.times(), wanted.max_failures, wanted.deadline), (2.0, None, None));
    assert_eq!((wanted.preheat, wanted.first.priority.get()), (false, 5));
}

#[test]
fn destinations_may_be_listed_instead() {
    let list = json!({"destination_url": null, "hosts": null, "destination_urls": ["null://h2/a", "null://h1/b"]});
    let wanted = World::new().ask(&body(list)).unwrap();
    let urls: Vec<_> = wanted.targets.iter().map(|target| target.url.as_str()).collect();
    assert_eq!((urls, wanted.template), (vec!["null://h2/a", "null://h1/b"], None));
}

#[test]
fn what_nobody_waits_for_goes_last_unless_told() {
    let priority = |more: Value| World::new().ask(&body(more)).unwrap().first.priority;
    assert_eq!(priority(json!({"preheat": true})), PREHEAT_PRIORITY);
    assert_eq!(priority(json!({"preheat": true, "priority": 7})).get(), 7);
    assert_eq!(priority(json!({"preheat": false})).get(), 5);
}

#[test]
fn the_host_that_has_the_object_there_already_is_left_out_unless_it_was_named() {
    let source = json!({"source_url": "null://h1/x", "hosts": {"racks": ["r1"]}});
    let wanted = World::new().ask(&body(source.clone())).unwrap();
    let hosts: Vec<_> = wanted.targets.iter().map(|target| target.host.as_str()).collect();
    assert_eq!(hosts, ["h2", "h3"]);
    let named = body(json!({"source_url": "null://h1/x"}));
    let problem = World::new().ask(&named).unwrap_err();
    assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("invalid_field", Some("destination_url")));
    let alone = json!({"source_url": "null://own/x", "hosts": {"racks": ["r0"]}});
    assert_eq!(World::new().ask(&body(alone)).unwrap_err().code.as_str(), "no_host_selected");
}

#[test]
fn what_is_wrong_refuses_the_whole_and_is_named() {
    let list = |urls: Value| json!({"destination_url": null, "hosts": null, "destination_urls": urls});
    for (more, code, field, says) in [
        (json!({"host": {}}), "unknown_field", "host", "did you mean hosts?"),
        (json!({"sorce_budget": 1}), "unknown_field", "sorce_budget", "did you mean source_budget?"),
        (json!({"source_url": null}), "missing_field", "source_url", "required"),
        (json!({"destination_url": null}), "missing_field", "destination_url", "destination_urls"),
        (json!({"hosts": null}), "missing_field", "hosts", "{host}"),
        (json!({"hosts": {}}), "invalid_field", "hosts", "percent"),
        (json!({"hosts": {"racks": ["r9"]}}), "no_host_selected", "hosts", "none of 5"),
        (json!({"hosts": {"names": ["h1", "h9"]}}), "unknown_host", "hosts.names", "h9"),
        (json!({"destination_url": "null://h1/x"}), "invalid_field", "destination_url", "{host}"),
        (json!({"destination_url": "null:///{host}"}), "invalid_field", "destination_url", "on no host"),
        (json!({"destination_url": "null://h1/{host}"}), "invalid_field", "destination_url", "not on the host"),
        (json!({"destination_url": "null//{host}"}), "invalid_url", "destination_url", ""),
        (json!({"hosts": {"names": ["h1", "h4"]}}), "path_outside_roots", "destination_url", "(h4)"),
        (json!({"destination_urls": ["null://h1/x"]}), "invalid_field", "destination_urls", "not both"),
        (
            json!({"destination_url": null, "destination_urls": ["null://h1/x"]}),
            "invalid_field",
            "hosts",
            "leave hosts out",
        ),
        (list(json!([])), "invalid_field", "destination_urls", "1 to 10000"),
        (list(json!(["null://h1/x", 5])), "invalid_field", "destination_urls", "a list of URLs"),
        (list(json!(["null://h1/x", "null://h1/y"])), "invalid_field", "destination_urls[1]", "twice"),
        (list(json!(["null://h1/x", "null:///y"])), "invalid_field", "destination_urls[1]", "on no host"),
        (list(json!(["null://h1/x", "null://z/y"])), "unknown_host", "destination_urls[1]", "z is not known"),
        (json!({"start_offset": 1}), "invalid_field", "start_offset", "the whole object"),
        (json!({"end_offset": 9}), "invalid_field", "end_offset", "the whole object"),
        (json!({"source_budget": 0.99}), "invalid_field", "source_budget", "1.0 to 1000"),
        (json!({"source_budget": 1000.5}), "invalid_field", "source_budget", "1.0 to 1000"),
        (json!({"source_budget": "2"}), "invalid_field", "source_budget", "1.0 to 1000"),
        (json!({"max_failures": -1}), "invalid_field", "max_failures", "whole number"),
        (json!({"deadline": "soon"}), "invalid_field", "deadline", "2030-01-31T12:00:00Z"),
        (json!({"deadline": "2020-01-01T00:00:00Z"}), "invalid_field", "deadline", "ahead"),
        (json!({"deadline": "9999-01-01T00:00:00Z"}), "invalid_field", "deadline", "366 days"),
        (json!({"preheat": 1}), "invalid_field", "preheat", "true or false"),
        (json!({"name": ""}), "invalid_field", "name", "255"),
        (json!({"priority": 10}), "invalid_field", "priority", "0 to 9"),
    ] {
        let problem = World::new().ask(&body(more.clone())).expect_err(&more.to_string());
        assert_eq!((problem.code.as_str(), problem.field.as_deref()), (code, Some(field)), "{more}: {problem}");
        assert!(problem.detail.contains(says), "{more}: {problem}");
    }
    assert!(World::new().ask(&json!([])).is_err());
}

#[test]
fn further_hosts_are_checked_like_the_first_ones() {
    let world = World::new();
    let first = world.ask(&body(json!({}))).unwrap().first;
    let further = |json: Value, template| further_targets(&json, &world, first.way(), template, 1);
    let template = Some("null://{host}/x");
    let targets = further(json!({"hosts": {"names": ["h3"]}}), template).unwrap();
    assert_eq!(targets[0].url.as_str(), "null://h3/x");
    assert_eq!(further(json!({"destination_urls": ["null://h3/z"]}), template).unwrap()[0].url.as_str(), "null://h3/z");
    for (json, template, code, field) in [
        (json!({"hosts": {"names": ["h4"]}}), template, "path_outside_roots", "destination_url"),
        (json!({"destination_url": "null://{host}/y"}), template, "unknown_field", "destination_url"),
        (json!({}), template, "missing_field", "hosts"),
        (json!({}), None, "missing_field", "destination_url"),
        (json!({"hosts": {"names": ["h3"]}}), None, "invalid_field", "hosts"),
    ] {
        let problem = further(json.clone(), template).unwrap_err();
        assert_eq!((problem.code.as_str(), problem.field.as_deref()), (code, Some(field)), "{json}: {problem}");
    }
}

/// A record as it is made, and what members in these states come to.
fn with_members(states: &[State]) -> (DistributionRecord, Rollup) {
    let request = World::new().ask(&body(json!({"max_failures": 1}))).unwrap();
    let record = record(&request);
    let mut rollup = Rollup::default();
    for (number, state) in states.iter().enumerate() {
        let id = TransferId::following(None, Timestamp::from_millis(number as u64), 0);
        let figures = Figures {
            state: *state,
            host: "h1".into(),
            progress: 0,
            bytes_total: None,
            bytes_fetched: 0,
            bytes_from_peers: 0,
            throughput: None,
        };
        rollup.follow(id, None, Some(figures));
    }
    (record, rollup)
}

fn record(request: &DistributionRequest) -> DistributionRecord {
    let pattern = json!({
        "version": 1, "owner": "alice", "state": "STATE_NEW", "source_url": "zero:///5", "destination_url": "",
        "part": request.first.part, "overwrite": "never", "priority": 5, "retries": 5, "created_at": 0, "updated_at": 0,
    });
    let record = json!({
        "version": 1, "pattern": pattern, "source_budget": request.source_budget, "created_at": 0,
        "max_failures": request.max_failures,
    });
    serde_json::from_value(record).expect("what has a default may be left out")
}

#[test]
fn a_distribution_is_where_its_members_are() {
    use State as S;
    for (states, pending, state) in [
        (&[][..], 0, S::Complete),
        (&[], 3, S::New),
        (&[S::New, S::New], 0, S::New),
        (&[S::New, S::Ready], 0, S::Running),
        (&[S::Complete], 1, S::Running),
        (&[S::Running, S::Complete, S::Error], 0, S::Running),
        (&[S::Paused, S::Paused, S::Complete], 0, S::Paused),
        (&[S::Paused, S::Running], 0, S::Running),
        (&[S::Complete, S::Complete], 0, S::Complete),
        (&[S::Complete, S::Canceled], 0, S::Complete),
        (&[S::Canceled, S::Canceled], 0, S::Canceled),
        (&[S::Complete, S::Error], 0, S::Error),
    ] {
        let (record, rollup) = with_members(states);
        assert_eq!(record.state(&rollup, pending), state, "{states:?} and {pending} more");
        let canceled = DistributionRecord { canceled: true, asked: Some(Action::Cancel), ..record.clone() };
        let expected = match (rollup.unended() + pending, rollup.failed()) {
            (1.., _) => S::Canceling,
            (0, 0) => S::Canceled,
            (0, _) => S::Error,
        };
        assert_eq!(canceled.state(&rollup, pending), expected, "{states:?} canceled");
    }
}

#[test]
fn what_a_client_resumes_by_itself_goes_on_after_the_whole_was_canceled() {
    let (record, rollup) = with_members(&[State::Running, State::Canceled]);
    let canceled = DistributionRecord { canceled: true, ..record };
    assert_eq!(canceled.state(&rollup, 0), State::Running);
    let (record, rollup) = with_members(&[State::Canceling, State::Canceled]);
    let canceled = DistributionRecord { canceled: true, ..record };
    assert_eq!((canceled.state(&rollup, 0), canceled.state(&rollup, 1)), (State::Canceling, State::Canceling));
}

#[test]
fn actions_are_answered_by_what_members_can_do() {
    use State as S;
    let table = [
        (&[S::New][..], false, "202 202 409 202"),
        (&[S::Running, S::Paused], false, "202 202 202 202"),
        (&[S::Paused], false, "202 202 202 202"),
        (&[S::Running, S::Error], false, "202 202 202 202"),
        (&[S::Running], true, "202 409 409 202"),
        (&[S::Canceled], true, "204 409 409 202"),
        (&[S::Error], false, "409 409 202 202"),
        (&[S::Complete], false, "409 409 409 202"),
    ];
    for (states, canceled, answers) in table {
        let (record, rollup) = with_members(states);
        let asked = Some(Action::Cancel).filter(|_| canceled);
        let record = DistributionRecord { canceled, asked, ..record };
        let state = record.state(&rollup, 0);
        for (action, expected) in Action::ALL.into_iter().zip(answers.split(' ')) {
            let answer = match record.answer(action, state, &rollup) {
                Answer::Done => "204",
                Answer::Underway => "202",
                Answer::Conflict => "409",
            };
            assert_eq!(answer, expected, "{action:?} of {states:?}, canceled: {canceled}");
        }
        let deleted = DistributionRecord { asked: Some(Action::Delete), ..record };
        assert_eq!(deleted.answer(Action::Resume, state, &rollup), Answer::Conflict);
    }
}

#[test]
fn it_stops_when_too_many_have_failed_or_its_time_is_over() {
    let stop = |states: &[State], deadline: Option<Timestamp>| {
        let (record, rollup) = with_members(states);
        let record = DistributionRecord { deadline, ..record };
        record.must_stop(&rollup, 0, false, NOW).map(|stop| stop.code)
    };
    use State as S;
    assert_eq!(stop(&[S::Running, S::Error], None), None, "one may");
    assert_eq!(stop(&[S::Running, S::Error, S::Erroring], None), Some(StopCode::TooManyFailures));
    assert_eq!(stop(&[S::Complete, S::Error, S::Error], None), None, "there is nothing left to stop");
    assert_eq!(stop(&[S::New], Some(NOW.after(Duration::from_millis(1)))), None);
    assert_eq!(stop(&[S::New], Some(NOW)), Some(StopCode::DeadlinePassed));
    let (record, rollup) = with_members(&[S::Error, S::Error, S::New]);
    let canceled = DistributionRecord { canceled: true, ..record };
    assert_eq!(canceled.must_stop(&rollup, 0, false, NOW), None, "it is stopping already");
}

#[test]
fn budgets_are_kept_to_a_thousandth() {
    for (times, kept) in
        [(1.0, Some(1.0)), (1.2345, Some(1.235)), (1000.0, Some(1000.0)), (0.999, None), (f64::NAN, None)]
    {
        assert_eq!(SourceBudget::new(times).map(SourceBudget::times), kept, "{times}");
    }
}

#[test]
fn codes_are_written_as_they_are_shown() {
    for code in StopCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}
