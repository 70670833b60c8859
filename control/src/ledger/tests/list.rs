//! Listing: order, pages, states and owners.

use serde_json::json;

use super::{Fixture, fixture::OWNER};
use crate::{
    ledger::{ListQuery, Scope, keys},
    model::{State, TransferId},
};

fn query(scope: &Scope, state: Option<State>, marker: Option<TransferId>, limit: usize) -> ListQuery {
    ListQuery { scope: scope.clone(), distribution: None, state, marker, limit }
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

/// Whoever follows the list goes on behind the last id it saw. Clients that submit at the same time get their ids and
/// their places in the store in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_transfer_becomes_visible_before_one_with_a_smaller_id() {
    let fixture = Fixture::new().await;
    let clients = (0..8).map(|client| {
        let ledger = fixture.ledger.clone();
        let requests: Vec<_> = (0..500).map(|index| fixture.request(&format!("{client}/{index}"), json!({}))).collect();
        tokio::spawn(async move {
            for request in &requests {
                ledger.create(request, OWNER, None).await.unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let found = fixture.store.range(keys::TRANSFERS, &keys::end_of(keys::TRANSFERS), usize::MAX, false).await.unwrap();
    assert_eq!(found.len(), 8 * 500);
    let late = found.windows(2).filter(|pair| pair[0].1.revision > pair[1].1.revision).count();
    assert_eq!(late, 0, "so many became visible behind one with a larger id");
}
