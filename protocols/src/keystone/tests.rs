//! Callers, and a Keystone that answers well and badly.

use std::time::Duration;

use super::callers::{Caller, Callers};
use crate::{
    Code,
    testing::{http_server::Reply, keystone::Keystone},
    web::Web,
};

#[test]
fn a_caller_is_told_by_its_own_token() {
    let keystone = Keystone::start();
    keystone.set_roles(&["member", "admin"]);
    let callers = Callers::new(Web::new(), &keystone.auth_url(), None).unwrap();
    let token = keystone.issue();
    let caller = callers.whose(&token).unwrap().expect("it is known");
    assert!(caller.lives > Duration::from_secs(3_500) && caller.lives <= Duration::from_secs(3_600));
    let wanted = Caller {
        project: Some(Keystone::PROJECT.into()),
        user: Keystone::USER.into(),
        roles: vec!["member".into(), "admin".into()],
        lives: caller.lives,
    };
    assert_eq!(caller, wanted);
    assert_eq!(callers.whose("hush-invented"), Ok(None));
    keystone.tokens().revoke_all();
    assert_eq!(callers.whose(&token), Ok(None));
    keystone.set_trouble(Some(Reply::new(503)));
    let error = callers.whose(&token).unwrap_err();
    assert_eq!(error.code, Code::HttpStatus);
    assert!(error.is_retryable() && !error.message.contains("hush"), "{error}");
    keystone.set_trouble(Some(Reply::new(404)));
    assert_eq!(callers.whose(&token).unwrap_err().code, Code::InvalidOption, "this 404 is not Keystone's");
}
