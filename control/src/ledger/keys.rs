//! Keys of the store. All are text; ids sort in the order of submission.
//!
//! | key | value |
//! | --- | --- |
//! | `t/ID` | the record of a transfer |
//! | `x/ID` | its secrets, sealed; while it is not final |
//! | `c/ID/NN` | its verified ranges, in pieces |
//! | `k/DIGEST` | the transfer that an idempotency key made, and the digest of its body |
//! | `g/MILLIS/ID` | what a transfer left beside its destination, to be swept from that time on |
//! | `e/INSTANCE` | an executor's process |
//! | `a/DIGEST` | a token, under the digest of its text |
//! | `n/OWNER/NAME` | a named credential, its values sealed; everybody's have no owner |
//! | `h/NAME` | a host that has enrolled |
//! | `j/DIGEST` | an invitation of a host, under the digest of its text; until it is used |
//! | `b/ID` | the record of a distribution; its secrets are under `x/ID`, like those of a transfer |
//! | `r/ID` | who reads the source of a distribution, and how much of it |
//! | `m/ID/NNNNNN` | hosts that are to become members of a distribution, some at a time |
//!
//! What follows from them ([`super::index`]), and is never written:
//!
//! | key | value |
//! | --- | --- |
//! | `s/STATE/ID` | index by state |
//! | `u/OWNER/ID` | index by owner |
//! | `o/OWNER/STATE/ID` | index by owner and state |
//! | `d/DIGEST` | the id, as 16 bytes, of the transfer that writes to a destination, or did and may yet: until its sweep is done |
//! | `p/DISTRIBUTION/ID` | a member of a distribution, and what counts of it there |
//! | `w/q/P/ID` | waits to be scheduled; P is 9 minus its priority |
//! | `w/b/MILLIS/ID` | waits for the time to be queued again |
//! | `w/a/ID` | ready or leased: takes a slot |
//!
//! A transfer in `STATE_NEW` has exactly one of `w/q` and `w/b`; one that takes a slot has `w/a`; others have none.

use crate::model::{HostName, Priority, Timestamp, TransferId, credential::CredentialName};

pub(crate) const WORK: &[u8] = b"w/";
pub(crate) const QUEUE: &[u8] = b"w/q/";
pub(crate) const BACKOFF: &[u8] = b"w/b/";
pub(crate) const ACTIVE: &[u8] = b"w/a/";
pub(crate) const TRANSFERS: &[u8] = b"t/";
pub(crate) const SWEEPS: &[u8] = b"g/";
pub(crate) const EXECUTORS: &[u8] = b"e/";
pub(crate) const TOKENS: &[u8] = b"a/";
pub(crate) const CREDENTIALS: &[u8] = b"n/";
pub(crate) const HOSTS: &[u8] = b"h/";
pub(crate) const INVITATIONS: &[u8] = b"j/";
pub(crate) const DISTRIBUTIONS: &[u8] = b"b/";
pub(crate) const SEEDS: &[u8] = b"r/";
pub(crate) const PLANS: &[u8] = b"m/";
pub(crate) const MEMBERS: &[u8] = b"p/";
/// What keys of derived records begin with.
pub(crate) const DERIVED: &[&[u8]] = &[b"s/", b"u/", b"o/", b"d/", MEMBERS, WORK];

/// Length of an id's text.
pub(crate) const ID_LEN: usize = 36;

pub(crate) fn transfer(id: TransferId) -> Vec<u8> {
    format!("t/{id}").into_bytes()
}

pub(crate) fn secrets(id: TransferId) -> Vec<u8> {
    format!("x/{id}").into_bytes()
}

pub(crate) fn ranges_piece(id: TransferId, piece: usize) -> Vec<u8> {
    format!("c/{id}/{piece:02}").into_bytes()
}

pub(crate) fn by_state(state: &str) -> Vec<u8> {
    format!("s/{state}/").into_bytes()
}

pub(crate) fn by_owner(owner: &str) -> Vec<u8> {
    format!("u/{}/", escaped(owner)).into_bytes()
}

pub(crate) fn by_owner_and_state(owner: &str, state: &str) -> Vec<u8> {
    format!("o/{}/{state}/", escaped(owner)).into_bytes()
}

/// Owners are names of users; what could be mistaken for a separator is escaped.
pub(crate) fn escaped(owner: &str) -> String {
    const SEPARATORS: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'%').add(b'/');
    percent_encoding::utf8_percent_encode(owner, SEPARATORS).to_string()
}

pub(crate) fn destination(digest: &[u8]) -> Vec<u8> {
    [b"d/", digest].concat()
}

pub(crate) fn idempotency(digest: &str) -> Vec<u8> {
    format!("k/{digest}").into_bytes()
}

/// What the keys of those begin with that wait with this priority.
pub(crate) fn queue_of(priority: Priority) -> Vec<u8> {
    format!("w/q/{}/", Priority::MAX.get() - priority.get()).into_bytes()
}

/// What the keys of those begin with that wait for this time.
pub(crate) fn backoff_until(not_before: Timestamp) -> Vec<u8> {
    timed(BACKOFF, not_before)
}

pub(crate) fn sweep(not_before: Timestamp, id: TransferId) -> Vec<u8> {
    with_id(&timed(SWEEPS, not_before), id)
}

pub(crate) fn executor(instance: &str) -> Vec<u8> {
    format!("e/{instance}").into_bytes()
}

/// The key of a token, or of all whose digests begin so.
pub(crate) fn token(digest: &str) -> Vec<u8> {
    format!("a/{digest}").into_bytes()
}

pub(crate) fn credential(owner: Option<&str>, name: &CredentialName) -> Vec<u8> {
    [credentials_of(owner), name.as_str().into()].concat()
}

/// What the keys of an owner's credentials begin with.
pub(crate) fn credentials_of(owner: Option<&str>) -> Vec<u8> {
    format!("n/{}/", escaped(owner.unwrap_or_default())).into_bytes()
}

pub(crate) fn host(name: &HostName) -> Vec<u8> {
    format!("h/{name}").into_bytes()
}

pub(crate) fn invitation(digest: &str) -> Vec<u8> {
    format!("j/{digest}").into_bytes()
}

pub(crate) fn distribution(id: TransferId) -> Vec<u8> {
    with_id(DISTRIBUTIONS, id)
}

/// What the keys of those hosts begin with that are to become members.
pub(crate) fn seeds(distribution: TransferId) -> Vec<u8> {
    with_id(SEEDS, distribution)
}

pub(crate) fn plans_of(distribution: TransferId) -> Vec<u8> {
    [with_id(PLANS, distribution), b"/".to_vec()].concat()
}

pub(crate) fn plan(distribution: TransferId, number: u64) -> Vec<u8> {
    [plans_of(distribution), format!("{number:06}").into_bytes()].concat()
}

/// The distribution that the key of a plan names.
pub(crate) fn distribution_of_plan(key: &[u8]) -> Option<TransferId> {
    std::str::from_utf8(key.get(PLANS.len()..PLANS.len() + ID_LEN)?).ok()?.parse().ok()
}

/// What the keys of its members begin with.
pub(crate) fn members_of(distribution: TransferId) -> Vec<u8> {
    [with_id(MEMBERS, distribution), b"/".to_vec()].concat()
}

/// The distribution that the key of a member names.
pub(crate) fn distribution_of_member(key: &[u8]) -> Option<TransferId> {
    std::str::from_utf8(key.get(MEMBERS.len()..MEMBERS.len() + ID_LEN)?).ok()?.parse().ok()
}

/// `prefix` and the text of an id behind it.
pub(crate) fn with_id(prefix: &[u8], id: TransferId) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(id.to_string().as_bytes());
    key
}

/// The id at the end of an index key.
pub(crate) fn trailing_id(key: &[u8]) -> Option<TransferId> {
    let at = key.len().checked_sub(ID_LEN)?;
    std::str::from_utf8(&key[at..]).ok()?.parse().ok()
}

/// The beginning of a key whose order is that of times.
fn timed(prefix: &[u8], time: Timestamp) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(format!("{:015}/", time.as_millis()).as_bytes());
    key
}

/// The first key of an index by time ([`BACKOFF`], [`SWEEPS`]) that is not due at `now`.
pub(crate) fn due_end(prefix: &[u8], now: Timestamp) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(format!("{:015}/", now.as_millis().saturating_add(1)).as_bytes());
    key
}

/// The first key behind everything that starts with `prefix`.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    let last = end.last_mut().expect("prefixes are not empty");
    *last += 1;
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_what_they_stand_for() {
        let early = TransferId::following(None, Timestamp::from_millis(1), 0);
        let late = TransferId::following(Some(early), Timestamp::from_millis(2), 0);
        let (high, low) = (Priority::new(9).unwrap(), Priority::new(0).unwrap());
        let queue = |priority, id| with_id(&queue_of(priority), id);
        let backoff = |time, id| with_id(&backoff_until(time), id);
        assert!(queue(high, late) < queue(low, early) && queue(low, early) < queue(low, late));
        let (soon, later) = (Timestamp::from_millis(99), Timestamp::from_millis(100));
        assert!(backoff(soon, late) < backoff(later, early));
        assert!(backoff(Timestamp::MAX, late) < end_of(BACKOFF));
        assert!(backoff(soon, late) < due_end(BACKOFF, soon) && due_end(BACKOFF, soon) < backoff(later, early));
        assert!(sweep(soon, late) < due_end(SWEEPS, soon) && due_end(SWEEPS, soon) < sweep(later, early));
        assert_eq!(trailing_id(&queue(low, late)), Some(late));
        assert_eq!(trailing_id(b"w/a/x"), None);
        assert!(by_owner_and_state("a/b", "STATE_NEW").starts_with(b"o/a%2Fb/STATE_NEW/"));
    }
}
