use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::driver::Driver;

const SECRET: &str = "hunter2-hunter2";

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything with a secret in it: the first are accepted, the others refused, each for another reason.
fn bodies() -> (Vec<Value>, Vec<Value>) {
    let with = |source: &str, more: Value| {
        let mut body = json!({"source_url": source, "destination_url": "file:///data/d"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let url = format!("http://h/x?signature={SECRET}");
    let signed = json!({"header.Authorization": SECRET});
    let put = json!({"source_options": signed, "destination_url": format!("http://h/y?signature={SECRET}")});
    let accepted = vec![with(&url, json!({ "source_options": signed })), with(&url, put)];
    let refused = vec![
        with(&format!("http://user:{SECRET}@h/x"), json!({})),
        with(&format!("http://user:{SECRET}@:99999999/x"), json!({})),
        with(&format!("gopher://h/x?signature={SECRET}"), json!({})),
        with(&format!("file:///data/x?signature={SECRET}"), json!({})),
        with(&format!("//h/x?signature={SECRET}"), json!({})),
        with(&url, json!({"source_options": {"header.Authorization": format!("{SECRET}\n")}})),
        with(&url, json!({"source_options": {"header.bad name": SECRET}})),
        with(&url, json!({"source_options": {"header.Authorization": [SECRET]}})),
        with(&url, json!({"source_options": {"token": SECRET}})),
        with(&url, json!({"source_options": SECRET})),
        with(&url, json!({"priority": 99})),
        with("zero:///5", json!({"destination_url": format!("http://h/x/?signature={SECRET}")})),
        with("zero:///5", json!({"destination_url": format!("http://user:{SECRET}@h/x")})),
    ];
    (accepted, refused)
}

#[tokio::test]
async fn secrets_are_shown_in_no_document_listing_error_or_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the log is on");

    let driver = Driver::new().await;
    let (accepted, refused) = bodies();
    for body in accepted {
        let answer = driver.post("/v1/transfers", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let document = answer.json();
        assert_eq!(document["source_url"], "http://h/x?<redacted>");
        assert_eq!(document["source_options"]["header.Authorization"], "<redacted>");
        let destination = document["destination_url"].as_str().unwrap();
        assert!(destination == "file:///data/d" || destination == "http://h/y?<redacted>", "{destination}");
        let shown = driver.get(&format!("/v1/transfers/{}", document["id"].as_str().unwrap())).await;
        let listed = driver.get("/v1/transfers").await;
        for answer in [answer, shown, listed] {
            assert!(!answer.text().contains(SECRET), "{}", answer.text());
        }
    }
    for body in refused {
        let answer = driver.post("/v1/transfers", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
    }
    let broken = format!("{{\"source_url\": \"http://h/?{SECRET}\", ");
    let answer = driver.post_with("/v1/transfers", broken, &[("idempotency-key", SECRET)]).await;
    assert!(!answer.text().contains(SECRET), "{}", answer.text());

    let written = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(written.contains("the log is on"));
    assert!(!written.contains(SECRET), "{written}");
}
