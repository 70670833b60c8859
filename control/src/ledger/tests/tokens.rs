use std::time::Duration;

use super::{Fixture, fixture::MOMENT, problem};
use crate::{
    ledger::TokenRefused,
    model::{ProblemCode, token::TokenScope},
};

#[tokio::test]
async fn a_token_is_known_by_its_text_until_it_expires_or_is_revoked() {
    let mut fixture = Fixture::new().await;
    let ledger = fixture.ledger.clone();
    assert!(!ledger.has_tokens());
    let life = Duration::from_secs(60);
    let (ending, text) = ledger.create_token("alice", TokenScope::Read, Some(life)).await.unwrap();
    fixture.environment.advance(MOMENT);
    let (lasting, other) = ledger.create_token("bob", TokenScope::Admin, None).await.unwrap();
    assert!(ledger.has_tokens() && text != other);
    assert_eq!(ledger.token(&text).await.unwrap().as_ref(), Ok(&ending));
    assert_eq!(ledger.tokens().await.unwrap(), [ending, lasting.clone()]);
    fixture.environment.advance(life - 2 * MOMENT);
    assert!(ledger.token(&text).await.unwrap().is_ok());
    fixture.environment.advance(MOMENT);
    assert_eq!(ledger.token(&text).await.unwrap(), Err(TokenRefused::Expired));
    assert_eq!(ledger.token(&other).await.unwrap().as_ref(), Ok(&lasting));

    fixture.reopen().await;
    let reopened = &fixture.ledger;
    assert!(reopened.has_tokens());
    assert_eq!(reopened.token(&other).await.unwrap().as_ref(), Ok(&lasting), "the key is kept beside the store");
    reopened.revoke_token(&lasting.id).await.unwrap();
    assert_eq!(reopened.token(&other).await.unwrap(), Err(TokenRefused::Unknown));
    assert_eq!(problem(reopened.revoke_token(&lasting.id).await), ProblemCode::TokenNotFound);
    assert!(reopened.has_tokens(), "the expired one can still be seen");
}

#[tokio::test]
async fn the_store_does_not_hold_a_tokens_text() {
    let fixture = Fixture::new().await;
    let (_, text) = fixture.ledger.create_token("alice", TokenScope::Submit, None).await.unwrap();
    let secret = text.strip_prefix("staccato_").unwrap();
    for (key, record) in fixture.store.range(&[0], &[255], 100, false).await.unwrap() {
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(secret);
        assert!(!holds(&key) && !holds(&record.value));
    }
}
