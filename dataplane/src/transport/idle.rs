//! Connections to other executors on which nothing is under way, kept for whoever reads from the same one next: many
//! small objects then share a few connections instead of making one each.
//!
//! Each lane has its own. Whoever ends a lane forgets them first: they are glommio's, and cannot outlive it.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use super::line::Wire;

/// Most that wait on a lane; of more, the oldest are closed.
const IDLE_MAX: usize = 128;
/// How long one may have waited: the other end closes those that have waited for a minute.
const IDLE_AGE_MAX: Duration = Duration::from_secs(30);

struct Waiting {
    peer: String,
    since: Instant,
    wire: Wire,
}

thread_local! {
    static IDLE: RefCell<Vec<Waiting>> = const { RefCell::new(Vec::new()) };
}

/// One to this peer, that waited the shortest time.
pub fn take(peer: &str) -> Option<Wire> {
    IDLE.with_borrow_mut(|idle| {
        idle.retain(|waiting| waiting.since.elapsed() < IDLE_AGE_MAX);
        let at = idle.iter().rposition(|waiting| waiting.peer == peer)?;
        Some(idle.remove(at).wire)
    })
}

/// Keeps one.
pub fn keep(peer: String, wire: Wire) {
    IDLE.with_borrow_mut(|idle| {
        if idle.len() == IDLE_MAX {
            idle.remove(0);
        }
        idle.push(Waiting { peer, since: Instant::now(), wire });
    });
}

/// Closes those to one peer: one was found to be broken, and what happened to one most likely happened to all.
pub fn forget(peer: &str) {
    IDLE.with_borrow_mut(|idle| idle.retain(|waiting| waiting.peer != peer));
}

/// Closes all.
pub fn forget_all() {
    IDLE.with_borrow_mut(Vec::clear);
}
