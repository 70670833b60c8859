//! Uploads that nobody has completed.

use super::{
    bad_destinations::{attempt, request},
    *,
};
use crate::{conformance::on_lane, contract::UnfinishedRequest};

#[test]
fn an_upload_of_ours_is_listed_until_it_is_complete_or_given_up() {
    let served = Served::start();
    let below = |name: &str| UnfinishedRequest { url: Served::url(name), options: served.options() };
    let list = |name: &str| served.protocol().unfinished(&below(name)).unwrap().expect("they can be listed");
    on_lane(Runtime::TokioUring, async |lane| {
        let left = attempt(&served, &request(&served), 5, &lane).await;
        left.write(0, b"whole", &lane).await.expect("it is written");
    });
    let found = list("x");
    assert_eq!((found.len(), found[0].name.as_str()), (1, "x"));
    assert_eq!(found[0].object, "swift://c/x");
    assert_eq!(list("y"), []);
    served.protocol().give_up(&below("x"), &found[0]).unwrap();
    assert_eq!((list("x"), served.store.left_overs()), (Vec::new(), Vec::new()));
    served.protocol().give_up(&below("x"), &found[0]).expect("it may be gone already");
}
