//! Listing: order, pages, states and owners.

use serde_json::json;

use super::Fixture;
use crate::{
    ledger::{ListQuery, Scope},
    model::{State, TransferId},
};

fn query(scope: &Scope, state: Option<State>, marker: Option<TransferId>, limit: usize) -> ListQuery {
    ListQuery { scope: scope.clone(), state, marker, limit }
}

async fn ids(fixture: &Fixture, query: &ListQuery) -> (Vec<TransferId>, Option<TransferId>) {
    let page = fixture.ledger.list(query).await.unwrap();
    (page.transfers.iter().map(|document| document.id.parse().unwrap()).collect(), page.next)
}

#[tokio::test]
async fn pages_of_any_size_make_the_whole_list_in_order() {
    let fixture = Fixture::new().await;
    let owners = ["a", "a/b", "a%2Fb", "b"];
    let mut all = Vec::new();
    for index in 0..24 {
        let owner = owners[index % owners.len()];
        let request = fixture.request(&format!("{index}"), json!({}));
        let created = fixture.ledger.create(&request, owner, None).await.unwrap();
        let id: TransferId = created.document.id.parse().unwrap();
        if index % 3 == 0 {
            fixture.ledger.pause(id, &Scope::All).await.unwrap();
        }
        all.push((id, owner, fixture.state(id).await));
    }
    let scopes = owners.iter().map(|owner| Scope::Owner((*owner).to_owned())).chain([Scope::All]);
    for scope in scopes {
        for state in [None, Some(State::New), Some(State::Paused), Some(State::Complete)] {
            let wanted: Vec<_> = all
                .iter()
                .filter(|(_, owner, at)| scope.sees(owner) && state.is_none_or(|state| state == *at))
                .map(|(id, _, _)| *id)
                .collect();
            for limit in [1, 2, 5, wanted.len().max(1), 100] {
                let (mut found, mut marker) = (Vec::new(), None);
                loop {
                    let (page, next) = ids(&fixture, &query(&scope, state, marker, limit)).await;
                    assert!(page.len() <= limit);
                    assert_eq!(next.is_some(), found.len() + page.len() < wanted.len(), "a last page has no next one");
                    found.extend(page);
                    let Some(next) = next else { break };
                    assert_eq!(found.last(), Some(&next));
                    marker = Some(next);
                }
                assert_eq!(found, wanted, "{scope:?} {state:?} by {limit}");
            }
        }
    }
}

#[tokio::test]
async fn a_marker_need_not_exist_any_more() {
    let fixture = Fixture::new().await;
    let (first, second, third) = (fixture.create("1").await, fixture.create("2").await, fixture.create("3").await);
    fixture.ledger.delete(second, &Scope::All).await.unwrap();
    assert_eq!(ids(&fixture, &query(&Scope::All, None, Some(second), 10)).await, (vec![third], None));
    assert_eq!(ids(&fixture, &query(&Scope::All, None, Some(third), 10)).await, (vec![], None));
    assert_eq!(ids(&fixture, &query(&Scope::All, None, None, 0)).await, (vec![first], Some(first)), "at least one");
}
