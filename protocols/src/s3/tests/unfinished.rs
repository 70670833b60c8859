//! Uploads that nobody has completed, and lists of them that make no sense.

use super::{store::BEGUN, *};
use crate::{
    Code,
    contract::{Unfinished, UnfinishedRequest},
    testing::http_server::Reply,
};

/// A store in which these uploads were begun, of objects with these keys.
fn with_uploads(keys: &[&str]) -> Served {
    let served = Served::start();
    for (number, key) in keys.iter().enumerate() {
        let upload = store::Upload { key: (*key).to_owned(), ..store::Upload::default() };
        served.store.state().uploads.insert(format!("id+{number}/="), upload);
    }
    served
}

fn below(served: &Served, prefix: &str) -> UnfinishedRequest {
    let url = ObjectUrl::parse(&format!("s3://bucket/{prefix}")).unwrap();
    UnfinishedRequest { url, options: served.options() }
}

fn list(served: &Served, prefix: &str) -> Result<Vec<Unfinished>, crate::Error> {
    served.protocol().unfinished(&below(served, prefix)).map(|found| found.expect("they can be listed"))
}

#[test]
fn all_uploads_below_a_prefix_are_listed_page_by_page_and_each_can_be_given_up() {
    let served = with_uploads(&["a/1", "a/1", "a/2 <&>", "b", "a/3"]);
    let all = list(&served, "").unwrap();
    assert_eq!(all.len(), 5);
    let found = list(&served, "a/").unwrap();
    let names: Vec<_> = found.iter().map(|upload| upload.name.as_str()).collect();
    assert_eq!(names, ["a/1", "a/1", "a/2 <&>", "a/3"]);
    assert_eq!(found[2].object, "s3://bucket/a/2%20%3C%26%3E");
    assert_eq!(found[0].begun, humantime::parse_rfc3339(BEGUN).ok());
    for upload in &found {
        served.protocol().give_up(&below(&served, ""), upload).unwrap();
    }
    let left: Vec<_> = served.store.state().uploads.values().map(|upload| upload.key.clone()).collect();
    assert_eq!(left, ["b"]);
    served.protocol().give_up(&below(&served, ""), &found[0]).expect("it may be gone already");
}

#[test]
fn an_upload_whose_key_no_url_can_carry_is_listed_and_not_taken_for_another() {
    let served = with_uploads(&["x/../b", "b"]);
    let found = list(&served, "x").unwrap();
    assert_eq!(found.len(), 1);
    let error = served.protocol().give_up(&below(&served, ""), &found[0]).unwrap_err();
    assert_eq!(error.code, Code::InvalidUrl);
    assert_eq!(served.store.uploads(), 2);
}

#[test]
fn a_list_that_does_not_go_on_is_not_asked_for_for_ever() {
    for page in [
        "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>",
        "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
         </ListMultipartUploadsResult>",
        "<html>",
    ] {
        let served = Served::start();
        served.store.fault("GET", "uploads", usize::MAX, move |_, _, _| Some(Reply::new(200).body(page)));
        assert_eq!(list(&served, "").unwrap_err().code, Code::ProtocolViolation, "{page}");
    }
}
