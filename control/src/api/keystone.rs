//! Callers whom an OpenStack's Keystone vouches for: `X-Auth-Token`.
//!
//! Whose token it is, Keystone is asked with that very token, so that the service needs no account of its own there. What
//! it told is believed for a while, no longer than the token lives; so a token that was revoked goes on working for at
//! most that while. Tokens are kept nowhere: what was told is found by their hash.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use staccato_protocols::{Error, keystone::callers::Callers};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{access::unauthorized, problem::Refusal};
use crate::model::{
    ProblemCode,
    token::{OWNER_BYTES_MAX, TokenScope},
};

/// The header that shows a token of Keystone's.
pub const HEADER: &str = "x-auth-token";

/// Most tokens of which is kept whose they are.
const KEPT_MAX: usize = 4096;
/// Most questions to Keystone at a time, and how long one waits for its turn.
const QUESTIONS_MAX: usize = 16;
const TURN_MAX: Duration = Duration::from_secs(5);
/// The role that may only look.
const READER: &str = "reader";

/// How callers of Keystone's are known. Clones are one and the same.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    callers: Callers,
    admin_role: String,
    keep: Duration,
    known: Mutex<HashMap<[u8; 32], Known>>,
    questions: Semaphore,
}

/// Somebody whom Keystone vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vouched {
    /// The project in which is asked: the owner.
    pub owner: String,
    /// What may be done.
    pub scope: TokenScope,
}

struct Known {
    who: Vouched,
    until: Instant,
}

impl Gate {
    /// Asks `callers`, and believes for `keep` what was told. Whoever has the role `admin_role` is an admin here, too.
    pub fn new(callers: Callers, admin_role: impl Into<String>, keep: Duration) -> Self {
        let questions = Semaphore::new(QUESTIONS_MAX);
        Self(Arc::new(Inner { callers, admin_role: admin_role.into(), keep, known: Mutex::default(), questions }))
    }

    /// Who shows this token.
    pub(super) async fn whose(&self, token: &str) -> Result<Vouched, Refusal> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(who) = self.known(&key) {
            return Ok(who);
        }
        let turn = timeout(TURN_MAX, self.0.questions.acquire()).await;
        let _turn = turn.map_err(|_| unavailable("others wait for it, too"))?;
        // Whoever was here before may have asked about the same one.
        if let Some(who) = self.known(&key) {
            return Ok(who);
        }
        let (callers, token) = (self.0.callers.clone(), token.to_owned());
        let asked = Instant::now();
        let answer = spawn_blocking(move || callers.whose(&token)).await;
        let caller = match answer.expect("asking does not panic") {
            Ok(Some(caller)) => caller,
            Ok(None) => return Err(refused("Keystone does not know this token, or not any more; get another")),
            Err(error) => return Err(not_told(&error)),
        };
        let Some(owner) = caller.project.filter(|project| is_owner(project)) else {
            return Err(Refusal::new(
                ProblemCode::Forbidden,
                "the token is for no project, and transfers belong to projects; get one with a project",
            ));
        };
        let scope = self.scope(&caller.roles);
        let who = Vouched { owner, scope };
        self.keep(key, Known { who: who.clone(), until: asked + self.0.keep.min(caller.lives) });
        Ok(who)
    }

    fn scope(&self, roles: &[String]) -> TokenScope {
        if roles.contains(&self.0.admin_role) {
            TokenScope::Admin
        } else if roles.iter().all(|role| role == READER) {
            TokenScope::Read
        } else {
            TokenScope::Submit
        }
    }

    fn known(&self, key: &[u8; 32]) -> Option<Vouched> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|known| Instant::now() < known.until).map(|known| known.who.clone())
    }

    fn keep(&self, key: [u8; 32], found: Known) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= KEPT_MAX {
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= KEPT_MAX {
            let first = known.iter().min_by_key(|(_, known)| known.until).map(|(key, _)| *key);
            first.and_then(|first| known.remove(&first));
        }
        known.insert(key, found);
    }
}

fn is_owner(project: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !project.is_empty() && project.len() <= OWNER_BYTES_MAX && project.bytes().all(plain)
}

fn refused(why: &str) -> Refusal {
    unauthorized(why).at(HEADER)
}

/// What an operator reads in the log, a client does not.
fn not_told(error: &Error) -> Refusal {
    tracing::warn!(%error, "Keystone does not say whose a caller's token is");
    unavailable("it is down, or set up wrongly: the service's log says more")
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(
        ProblemCode::Unavailable,
        format!("Keystone cannot be asked now whose the token is ({why}); try again"),
    )
}
