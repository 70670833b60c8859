use http::Method;
use serde_json::{Value, json};

use super::driver::{Driver, OWNER};

const SECRET: &str = "hunter2-hunter2";

fn web() -> Value {
    let options = json!({"header.Authorization": SECRET});
    json!({"schemes": ["http", "https"], "urls": ["https://h/a", "http://h"], "options": options})
}

fn with(source: &str, options: Value) -> Value {
    json!({"source_url": source, "destination_url": "file:///data/d", "source_options": options})
}

/// Sets alice's credential `web`.
async fn driver() -> Driver {
    let driver = Driver::new().await;
    let set = driver.as_user(OWNER, Method::PUT, "/v1/credentials/web", Some(&web())).await;
    assert_eq!(set.status, 201, "{}", set.text());
    driver
}

#[tokio::test]
async fn a_credential_is_set_shown_listed_and_deleted_and_its_values_are_nowhere() {
    let driver = driver().await;
    let path = "/v1/credentials/web";
    let mut answers = vec![driver.as_user(OWNER, Method::PUT, path, Some(&web())).await];
    assert_eq!(answers[0].status, 200, "it was there");
    answers.extend([driver.get(path).await, driver.get("/v1/credentials").await]);
    let document = answers[1].json();
    assert_eq!((&document["owner"], &document["kept"]), (&json!(OWNER), &json!("sealed")));
    assert_eq!(document["options"], json!(["header.Authorization"]));
    assert_eq!(answers[2].json(), json!([document]));
    let body = with("http://h/x", json!({"credential": "web"}));
    answers.push(driver.post("/v1/transfers", &body).await);
    assert_eq!(answers[3].status, 201, "{}", answers[3].text());
    assert_eq!(answers[3].json()["source_options"], json!({"credential": "web"}));
    answers.push(driver.get("/v1/transfers").await);
    assert!(answers.iter().all(|answer| !answer.text().contains(SECRET)));
    assert_eq!(driver.delete(path).await.status, 204);
    for answer in [driver.delete(path).await, driver.get(path).await, driver.get("/v1/credentials/..").await] {
        answer.problem(404, "credential_not_found", None);
    }
}

#[tokio::test]
async fn credentials_of_others_do_not_exist_and_admins_have_everybodys() {
    let driver = driver().await;
    let path = "/v1/credentials/web";
    driver.as_user("bob", Method::GET, path, None).await.problem(404, "credential_not_found", None);
    driver.as_user("bob", Method::DELETE, path, None).await.problem(404, "credential_not_found", None);
    assert_eq!(driver.as_user("bob", Method::GET, "/v1/credentials", None).await.json(), json!([]));
    for owner in [OWNER, "*"] {
        for method in [Method::PUT, Method::GET, Method::DELETE] {
            let body = Some(web()).filter(|_| method == Method::PUT);
            let asked = driver.as_user("bob", method, &format!("{path}?owner={owner}"), body.as_ref()).await;
            asked.problem(403, "forbidden", Some("owner"));
        }
    }
    let everybodys = driver.at_admin_socket(Method::PUT, "/v1/credentials/shared?owner=*", Some(&web())).await;
    assert_eq!((everybodys.status, &everybodys.json()["owner"]), (201, &Value::Null));
    assert_eq!(driver.as_user("bob", Method::GET, "/v1/credentials/shared", None).await.status, 200);
    let bobs = driver.at_admin_socket(Method::PUT, "/v1/credentials/web?owner=bob", Some(&web())).await;
    assert_eq!((bobs.status, bobs.json()["owner"].as_str()), (201, Some("bob")));
    let all = driver.at_admin_socket(Method::GET, "/v1/credentials", None).await;
    assert_eq!(all.json().as_array().unwrap().len(), 3);
    let shown = driver.at_admin_socket(Method::GET, &format!("{path}?owner={OWNER}"), None).await;
    assert_eq!(shown.json()["owner"], OWNER);
    assert_eq!(driver.at_admin_socket(Method::DELETE, &format!("{path}?owner=bob"), None).await.status, 204);
    assert_eq!(driver.get(path).await.status, 200, "alice's is hers");
    let wrong = driver.at_admin_socket(Method::PUT, "/v1/credentials/web?owner=a%20b", Some(&web())).await;
    wrong.problem(400, "invalid_field", Some("owner"));
}

#[tokio::test]
async fn a_malformed_credential_is_refused_with_its_field_and_without_its_values() {
    let driver = Driver::new().await;
    let put = |path: &'static str, body: Value| {
        let driver = &driver;
        async move { driver.as_user(OWNER, Method::PUT, path, Some(&body)).await }
    };
    put("/v1/credentials/-", web()).await.problem(400, "invalid_field", Some("name"));
    put("/v1/credentials/web?who=x", web()).await.problem(400, "unknown_field", Some("who"));
    for (body, code, field) in [
        (json!([]), "invalid_field", None),
        (json!({"schemes": ["http"], "options": {"header.x": SECRET}}), "invalid_field", Some("urls")),
        (json!({"schemes": ["file"], "options": {"x": SECRET}}), "invalid_field", Some("schemes")),
        (json!({"schemes": ["http"], "options": {"header.x": [SECRET]}}), "invalid_field", Some("options.header.x")),
        (json!({"schemes": ["http"]}), "missing_field", Some("options")),
        (json!({"schemes": ["http"], "secret": SECRET}), "unknown_field", Some("secret")),
    ] {
        let answer = put("/v1/credentials/web", body).await;
        answer.problem(400, code, field);
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_request_may_use_a_credential_and_not_lead_it_elsewhere() {
    let driver = driver().await;
    let named = json!({"credential": "web"});
    let (unusable, option) = ("credential_unusable", "invalid_option");
    for (source, options, code, field) in [
        ("http://h/x", json!({"credential": "none"}), unusable, "source_options.credential"),
        ("http://h/x", json!({"credential": "../web"}), unusable, "source_options.credential"),
        ("http://h/x", json!({"credential": 1}), "invalid_field", "source_options.credential"),
        ("http://evil.example/x", named.clone(), unusable, "source_options.credential"),
        ("https://h/b", named.clone(), unusable, "source_options.credential"),
        ("https://h/a/x", json!({"credential": "web", "ca": "x"}), unusable, "source_options.ca"),
        ("http://h/x", json!({"credential": "web", "header.x": "y"}), unusable, "source_options.header.x"),
        ("http://h/x", json!({"credential": "web", "stall_timeout": "soon"}), option, "source_options"),
        ("file:///data/x", named.clone(), option, "source_options"),
        ("zero:///5", named.clone(), option, "source_options"),
    ] {
        let body = with(source, options);
        let answer = driver.post("/v1/transfers", &body).await;
        answer.problem(400, code, Some(field));
        assert!(!answer.text().contains(SECRET));
        let several = driver.post("/v1/transfers", &json!([body])).await;
        assert_eq!(several.json()[0]["problem"]["field"], field);
    }
    let bobs = driver.as_user("bob", Method::POST, "/v1/transfers", Some(&with("http://h/x", named.clone()))).await;
    bobs.problem(400, unusable, Some("source_options.credential"));
    let used =
        driver.post("/v1/transfers", &with("https://h/a/x", json!({"credential": "web", "stall_timeout": "5s"}))).await;
    assert_eq!(used.status, 201, "{}", used.text());
    let protocols = driver.get("/v1/protocols").await.json();
    for protocol in protocols["protocols"].as_array().unwrap() {
        let options = protocol["options"].as_array().unwrap();
        let knows = options.iter().any(|option| option["name"] == "credential");
        let has_secrets = options.iter().any(|option| option["secret"] == true);
        assert_eq!(knows, has_secrets, "{protocol}");
    }
}
