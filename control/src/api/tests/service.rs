use std::collections::BTreeMap;

use serde_json::json;
use staccato_dataplane::transport::peers::Refusals;

use super::driver::Driver;
use crate::{
    model::{State, host::Announcement, transfer::RECORD_VERSION},
    store::Commit,
};

#[tokio::test]
async fn the_first_page_is_a_choice_of_versions() {
    let driver = Driver::new().await;
    let answer = driver.get("/").await;
    assert_eq!(answer.status, 300);
    let v1 = &answer.json()["versions"]["v1"];
    let protocols = json!(["file", "glance", "glance+https", "http", "https", "null", "s3", "swift", "zero"]);
    assert_eq!(*v1, json!({"id": "v1", "version": "1.0", "status": "CURRENT", "protocols": protocols}));
    let version = driver.get("/v1").await;
    assert_eq!((version.status, &version.json()), (200, v1));
}

#[tokio::test]
async fn protocols_say_what_they_can_do_and_which_options_are_secret() {
    let driver = Driver::new().await;
    let document = driver.get("/v1/protocols").await.json();
    let found: BTreeMap<&str, _> = document["protocols"]
        .as_array()
        .unwrap()
        .iter()
        .map(|protocol| (protocol["scheme"].as_str().unwrap(), protocol))
        .collect();
    let stream = Some("in_order");
    for (scheme, source, writes, resumes) in [
        ("file", true, Some("anywhere"), true),
        ("glance", true, stream, false),
        ("glance+https", true, stream, false),
        ("http", true, stream, false),
        ("https", true, stream, false),
        ("null", false, Some("anywhere"), false),
        ("s3", true, Some("parts"), true),
        ("swift", true, Some("parts"), true),
        ("zero", true, None, false),
    ] {
        let protocol = found[scheme];
        let (can_read, can_write) = (protocol["source"] == source, protocol["destination"] == writes.is_some());
        assert!(can_read && can_write && protocol["ranges"] == source, "{protocol}");
        assert!(protocol["writes"] == json!(writes) && protocol["resumes"] == resumes, "{protocol}");
        assert_eq!(protocol["origin"], "built_in");
    }
    assert_eq!(document["broken"], json!([]));
    let options = found["https"]["options"].as_array().unwrap();
    let header = options.iter().find(|option| option["name"] == "header.*").unwrap();
    assert_eq!(header["secret"], true);
    assert!(options.iter().all(|option| option["help"].as_str().is_some_and(|help| !help.is_empty())));
}

#[tokio::test]
async fn a_service_is_ready_until_it_stops_and_alive_all_the_time() {
    let driver = Driver::new().await;
    assert_eq!(driver.get("/readyz").await.json(), json!({"status": "ready"}));
    driver.stop.send(true).unwrap();
    let answer = driver.get("/readyz").await;
    answer.problem(503, "unavailable", None);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let health = driver.get("/healthz").await;
    assert_eq!((health.status, health.json()), (200, json!({"status": "ok"})));
}

#[tokio::test]
async fn metrics_are_text_that_prometheus_reads() {
    let driver = Driver::new().await;
    for state in [State::New, State::Complete, State::Error] {
        driver.transfer_in(state).await;
    }
    driver.get("/nowhere").await;
    let host = "h1".parse().unwrap();
    let invitation = driver.ledger.invite(&host, None).await.unwrap().token;
    driver.ledger.enrol(&host, &invitation, &[1; 32]).await.unwrap();
    driver.ledger.join(Some(&host), "i@h1", Announcement::default()).await.unwrap();
    driver.ledger.note_neighbours("i@h1", Vec::new(), Refusals { not_allowed: 3, too_many: 0 });
    let answer = driver.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let samples = parse_metrics(&answer.text());
    for (name, value) in [
        ("staccato_transfers{state=\"STATE_NEW\"}", 1.0),
        ("staccato_transfers{state=\"STATE_COMPLETE\"}", 1.0),
        ("staccato_transfers{state=\"STATE_RUNNING\"}", 0.0),
        ("staccato_transfers_created_total", 3.0),
        ("staccato_transfers_completed_total", 1.0),
        ("staccato_transfers_failed_total", 1.0),
        ("staccato_completed_bytes_total", 5.0),
        ("staccato_executor_refusals_total{executor=\"h1\",why=\"not_allowed\"}", 3.0),
        ("staccato_executor_refusals_total{executor=\"h1\",why=\"too_many\"}", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {samples:#?}");
    }
    let count = "staccato_request_duration_seconds_count";
    assert_eq!(samples[&format!("{count}{{method=\"POST\",route=\"/v1/transfers\",status=\"201\"}}")], 3.0);
    assert_eq!(samples[&format!("{count}{{method=\"GET\",route=\"unknown\",status=\"404\"}}")], 1.0);
    assert!(!answer.text().contains("/v1/transfers/0"), "ids are no labels");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_counted_and_says_what_to_do_about_it() {
    let driver = Driver::new().await;
    let (newer, other) = (driver.submit("newer").await, driver.submit("other").await);
    let key = format!("t/{newer}");
    let record = driver.ledger.store().get(key.as_bytes()).await.unwrap().unwrap().value;
    let text = String::from_utf8(record).unwrap();
    let (index_line, record) = text.split_once('\n').unwrap();
    let mut record: serde_json::Value = serde_json::from_str(record).unwrap();
    record["version"] = (RECORD_VERSION + 1).into();
    driver.ledger.store().commit(Commit::new().put(key, format!("{index_line}\n{record}"))).await.unwrap();

    let listed = driver.get("/v1/transfers").await;
    assert_eq!(
        (listed.status, &listed.json()[0]["id"], listed.json().as_array().unwrap().len()),
        (200, &json!(other), 1)
    );
    let samples = parse_metrics(&driver.get("/metrics").await.text());
    assert_eq!(samples["staccato_records_unreadable_total"], 1.0);
    let detail = driver.get(&format!("/v1/transfers/{newer}")).await.problem(500, "internal", None);
    assert!(detail.contains(&newer) && detail.contains("start the version of Staccato that wrote it"), "{detail}");
}

/// The samples of a page, by name and labels, checked against the text format: each belongs to a family that was
/// declared before it, once; the page ends with `# EOF`.
fn parse_metrics(page: &str) -> BTreeMap<String, f64> {
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let body = page.strip_suffix("# EOF\n").expect("the page ends with # EOF");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, family, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            if kind == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&text), "{line}");
                assert!(families.insert(family, text).is_none(), "{family} is declared twice");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let is_name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        assert!(is_name(name), "{line}");
        let labels = labels.strip_suffix('}').unwrap();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
        }
        let declared = families.iter().any(|(family, kind)| {
            let suffixes: &[&str] = match *kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_bucket", "_sum", "_count"],
            };
            name.strip_prefix(family).is_some_and(|rest| suffixes.contains(&rest))
        });
        assert!(declared, "no family for {line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}
