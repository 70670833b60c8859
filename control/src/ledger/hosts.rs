//! Hosts: invited, enrolled, joined, seen, forgotten.
//!
//! An *invitation* lets one executor enrol a host, once. *Enrolled* is stored: which key the host's executor has. *Joined*
//! is not: an executor that runs says so, and again when this process has begun anew. Whose word it is is settled where
//! messages come in, by the certificate of the connection.

use std::{fmt, net::SocketAddr, time::Duration};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::signature::KeyPair as _;
use serde::{Deserialize, Serialize};
use staccato_dataplane::transport::{
    peers::{LinkReport, Refusals},
    ticket::KeyDigest,
};
use utoipa::ToSchema;

use crate::{
    model::{
        Problem, ProblemCode, Timestamp,
        host::{
            Announcement, ExecutorDocument, HostName, HostRecord, LABELS_MAX, LinkDocument, ROOTS_BYTES_MAX, ROOTS_MAX,
            RefusalsDocument,
        },
        token::{TOKEN_BYTES, invitation_text},
    },
    store::{Commit, CommitError, Write},
};

use super::{Files, Ledger, LedgerError, change::POISON, keys};

/// Most lanes of an executor, each with a port of its own.
const LANES_MAX: usize = 64;
/// Most links of an executor that are remembered.
const LINKS_MAX: usize = 1_000;
/// Longest name of an instance: it stands in records.
const INSTANCE_BYTES_MAX: usize = 128;
/// Most hosts.
const HOSTS_MAX: usize = 10_000;
/// Most invitations that are not used yet.
const INVITATIONS_MAX: usize = 10_000;
/// How long an invitation lasts unless told.
pub const INVITATION_LIFE_DEFAULT: Duration = Duration::from_secs(3600);
/// Longest life of an invitation.
const INVITATION_LIFE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// An invitation as it is made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// The host that may enrol with it.
    #[schema(value_type = String)]
    pub name: HostName,
    /// Its text: to be given to `staccato executor --join`; kept nowhere, and good once.
    pub token: String,
    /// From when on it is nothing any more (RFC 3339).
    pub expires_at: String,
}

/// Without its text: nobody logs that by mistake.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An invitation as it is stored.
#[derive(Serialize, Deserialize)]
struct Invited {
    name: HostName,
    expires_at: Timestamp,
}

/// Why a host was not enrolled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEnrolled {
    /// The invitation is none, was used, or is over.
    #[error("the invitation was used, has expired or never was one; `staccato executors invite` makes a new one")]
    NoInvitation,
    /// It is another host's.
    #[error("the invitation is for {0}; use it with --name {0}")]
    OtherHost(HostName),
    /// The store cannot answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why an executor has not joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// Another process of the same executor has joined since, or this one was seen to end.
    #[error(
        "another process has joined as this executor since: two executors have one name, or one key; stop one of them"
    )]
    Superseded,
    /// Its host has not enrolled, or was forgotten.
    #[error("this host is not enrolled (any more); enrol it with a new invitation (`staccato executors invite`)")]
    Unknown,
    /// What it says of itself is not acceptable.
    #[error("{0}")]
    Unacceptable(String),
    /// The store cannot answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Invites a host: whoever shows the text may enrol as it, once.
    pub async fn invite(&self, name: &HostName, life: Option<Duration>) -> Result<Invitation, LedgerError> {
        if !self.inner.config.takes_hosts_in {
            let detail = "executors of other hosts join over TLS, and this service has none; start it with --tls-cert FILE, \
                          --tls-key FILE and --listen https://ADDRESS:PORT (`staccato pki` makes a certificate)";
            return Err(Problem::new(ProblemCode::NoTls, detail).into());
        }
        let life = life.unwrap_or(INVITATION_LIFE_DEFAULT);
        if life.is_zero() || life > INVITATION_LIFE_MAX {
            return Err(Problem::invalid("expires_in_seconds", "an invitation lasts 1 second to 30 days").into());
        }
        if *name == self.inner.config.own_host {
            let detail =
                format!("{name} is the service's own host, whose executor needs no invitation; use another name");
            return Err(Problem::invalid("name", detail).into());
        }
        let _turn = self.inner.hosts_turn.lock().await;
        self.drop_old_invitations().await?;
        let mut random = [0; TOKEN_BYTES];
        for piece in random.as_chunks_mut::<8>().0 {
            *piece = self.inner.environment.random().to_le_bytes();
        }
        let token = invitation_text(random);
        let expires_at = self.inner.environment.now().after(life);
        let value = serde_json::to_vec(&Invited { name: name.clone(), expires_at }).expect("a name and a number");
        self.write(vec![Write::Put(keys::invitation(&self.invitation_digest(&token)), value)]).await?;
        Ok(Invitation { name: name.clone(), token, expires_at: expires_at.to_string() })
    }

    /// Which host may enrol with an invitation.
    pub async fn invited(&self, token: &str) -> Result<HostName, NotEnrolled> {
        Ok(self.find_invitation(token).await?.1.name)
    }

    /// Enrols the host that an invitation is for: from now on its executor is whoever has this key. The invitation is used
    /// up by that. A host that had enrolled before has a new executor then.
    pub async fn enrol(&self, name: &HostName, token: &str, key: &KeyDigest) -> Result<(), NotEnrolled> {
        let _turn = self.inner.hosts_turn.lock().await;
        let (revision, invited) = self.find_invitation(token).await?;
        if invited.name != *name {
            return Err(NotEnrolled::OtherHost(invited.name));
        }
        let announced =
            self.inner.fleet.lock().expect(POISON).host(name.as_str()).map(|host| host.record.announced.clone());
        let record = HostRecord {
            name: name.clone(),
            key: write_key(key),
            enrolled_at: self.inner.environment.now(),
            announced: announced.unwrap_or_default(),
        };
        let invitation = keys::invitation(&self.invitation_digest(token));
        let value = serde_json::to_vec(&record).expect("strings and numbers");
        let commit =
            Commit::new().require(invitation.clone(), revision).delete(invitation).put(keys::host(name), value);
        match self.inner.store.commit(commit).await {
            Ok(_) => {}
            Err(CommitError::Conflict(_)) => return Err(NotEnrolled::NoInvitation),
            Err(CommitError::Failed(error)) => return Err(LedgerError::from(error).into()),
        }
        tracing::info!(host = %name, "a host has enrolled");
        self.inner.fleet.lock().expect(POISON).enrolled(record);
        Ok(())
    }

    /// An executor runs: that of `host`, or with none the service's own. What another process of it held is free: only one
    /// can run where its state is.
    pub async fn join(
        &self,
        host: Option<&HostName>,
        instance: &str,
        announced: Announcement,
    ) -> Result<(), JoinRefused> {
        if self.is_gone(instance) {
            return Err(JoinRefused::Superseded);
        }
        if !is_of(instance, host) {
            let why = "an instance is called NAME@HOST, and the service's own NAME".to_owned();
            return Err(JoinRefused::Unacceptable(why));
        }
        let bytes: usize = announced.roots.iter().map(String::len).sum();
        if announced.quic.len() > LANES_MAX
            || announced.roots.len() > ROOTS_MAX
            || bytes > ROOTS_BYTES_MAX
            || announced.labels.len() > LABELS_MAX
            || announced.version.len() > 64
        {
            let why = format!(
                "an executor has at most {LANES_MAX} lanes, {LABELS_MAX} labels, and {ROOTS_MAX} roots of {ROOTS_BYTES_MAX} \
                 bytes together"
            );
            return Err(JoinRefused::Unacceptable(why));
        }
        let _turn = self.inner.hosts_turn.lock().await;
        if let Some(name) = host {
            let known = self.inner.fleet.lock().expect(POISON).host(name.as_str()).map(|host| host.record.clone());
            let mut record = known.ok_or(JoinRefused::Unknown)?;
            if record.announced != announced {
                record.announced = announced.clone();
                let value = serde_json::to_vec(&record).expect("strings and numbers");
                self.write(vec![Write::Put(keys::host(name), value)]).await?;
                self.inner.fleet.lock().expect(POISON).enrolled(record);
            }
        }
        let now = self.inner.environment.monotonic();
        let name = host.map_or("", HostName::as_str);
        let before = self.inner.fleet.lock().expect(POISON).joined(name, instance, announced, now);
        if let Some(before) = before {
            tracing::info!(host = name, instance, before, "an executor has come back as another process");
            self.release_executor(&before).await?;
        }
        self.ring();
        Ok(())
    }

    /// An executor has said something; `false` when it must join first.
    pub fn heard(&self, instance: &str) -> bool {
        let now = self.inner.environment.monotonic();
        self.inner.fleet.lock().expect(POISON).heard(instance, now)
    }

    /// What an executor knows of its links to other hosts, and whom it has turned away.
    pub fn note_neighbours(&self, instance: &str, mut links: Vec<LinkReport>, refusals: Refusals) {
        links.truncate(LINKS_MAX);
        self.inner.fleet.lock().expect(POISON).note_neighbours(instance, links, refusals);
    }

    /// Whether this process is the executor of this host.
    pub fn speaks_for(&self, host: &HostName, instance: &str) -> bool {
        self.inner.fleet.lock().expect(POISON).speaks_for(host, instance)
    }

    /// An executor ends: what it holds is free at once.
    pub async fn leave(&self, instance: &str) -> Result<(), LedgerError> {
        self.release_executor(instance).await
    }

    /// The host whose executor has this key.
    pub fn host_of_key(&self, key: &KeyDigest) -> Option<HostName> {
        self.inner.fleet.lock().expect(POISON).host_of_key(&write_key(key)).cloned()
    }

    /// Forgets a host: its certificate is nobody's, and what its executor holds is free when its leases end.
    pub async fn forget_host(&self, name: &str) -> Result<(), LedgerError> {
        let missing = || Problem::new(ProblemCode::ExecutorNotFound, format!("no executor is called {name:?}"));
        let parsed: HostName = name.parse().map_err(|_| missing())?;
        let _turn = self.inner.hosts_turn.lock().await;
        if self.inner.fleet.lock().expect(POISON).host(name).is_none() {
            return Err(missing().into());
        }
        self.write(vec![Write::Delete(keys::host(&parsed))]).await?;
        self.inner.fleet.lock().expect(POISON).forget(&parsed);
        tracing::info!(host = name, "a host was forgotten");
        Ok(())
    }

    /// All executors, as clients see them; their roots only where these may be shown.
    pub fn executor_documents(&self, with_roots: bool) -> Vec<ExecutorDocument> {
        let now = self.inner.environment.monotonic();
        let config = &self.inner.config;
        let fleet = self.inner.fleet.lock().expect(POISON);
        let leases = self.inner.leases.lock().expect(POISON);
        let own = config.own_executor.then(|| (config.own_host.to_string(), true, fleet.own(), None));
        let others = fleet.hosts().map(|host| (host.record.name.to_string(), false, host.live(), Some(&host.record)));
        let document = |(name, own, live, record): (String, bool, Option<&super::fleet::Live>, Option<&HostRecord>)| {
            let announced = live.map(|live| &live.announced).or(record.map(|record| &record.announced));
            let announced = announced.cloned().unwrap_or_default();
            let is_up = live.is_some_and(|live| now < live.heard + config.lease);
            let never = announced.version.is_empty();
            ExecutorDocument {
                name,
                health: if is_up {
                    "up"
                } else if never {
                    "new"
                } else {
                    "down"
                }
                .into(),
                own,
                version: announced.version,
                running: live.map_or(0, |live| leases.of_executor(&live.instance).len()),
                slots: announced.slots,
                lanes: announced.lanes,
                roots: if with_roots { announced.roots } else { Vec::new() },
                address: announced.address.map(|address| address.to_string()),
                labels: announced.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
                rack: announced.rack.map(String::from),
                links: live.map_or_else(Vec::new, |live| live.links.iter().map(LinkDocument::of).collect()),
                refusals: live.map(|live| RefusalsDocument::of(live.refusals)),
                heard_seconds: live.map(|live| now.saturating_sub(live.heard).as_secs()),
            }
        };
        own.into_iter().chain(others).map(document).collect()
    }

    /// Whether something can be given to the executor of this host; the service's own comes back within a second.
    pub fn is_up(&self, host: &str) -> bool {
        let (now, patience) = (self.inner.environment.monotonic(), self.inner.config.lease);
        host.is_empty() || self.inner.fleet.lock().expect(POISON).up(host, now, patience).is_some()
    }

    /// A number that is another when it may be otherwise with [`Ledger::is_up`].
    pub fn fleet_version(&self) -> u64 {
        let (now, patience) = (self.inner.environment.monotonic(), self.inner.config.lease);
        self.inner.fleet.lock().expect(POISON).look(now, patience)
    }

    /// The hosts that can be given something, and how many attempts each runs at a time, where it said that.
    pub fn hosts_up(&self) -> Vec<(String, Option<usize>)> {
        let (now, patience) = (self.inner.environment.monotonic(), self.inner.config.lease);
        let fleet = self.inner.fleet.lock().expect(POISON);
        let own = self.inner.config.own_executor.then(|| (String::new(), None));
        let others = fleet.hosts().filter_map(|host| {
            let live = fleet.up(host.record.name.as_str(), now, patience)?;
            Some((host.record.name.to_string(), Some(live.announced.slots)))
        });
        own.into_iter().chain(others).collect()
    }

    /// Names of the hosts that have enrolled.
    pub fn host_names(&self) -> Vec<HostName> {
        self.inner.fleet.lock().expect(POISON).hosts().map(|host| host.record.name.clone()).collect()
    }

    /// What may be done with the files of a host; none where no such host has enrolled.
    pub(crate) fn files_of(&self, host: &str) -> Option<std::sync::Arc<Files>> {
        Some(self.inner.fleet.lock().expect(POISON).host(host)?.files.clone())
    }

    /// Whether others can connect to the executor of this host, as far as it has said: none where it never did.
    pub(crate) fn lets_others_in(&self, host: &str) -> Option<bool> {
        let fleet = self.inner.fleet.lock().expect(POISON);
        let announced = match host {
            "" => &fleet.own()?.announced,
            name => &fleet.host(name)?.record.announced,
        };
        (!announced.version.is_empty()).then_some(announced.address.is_some())
    }

    /// What verifies tickets (Ed25519).
    pub fn ticket_key(&self) -> Vec<u8> {
        self.inner.ticket_key.public_key().as_ref().to_vec()
    }

    /// The time on this process's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.environment.now()
    }

    /// A random number.
    pub(crate) fn random(&self) -> u64 {
        self.inner.environment.random()
    }

    /// The time on this process's clock, which is the deployment's: milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.inner.environment.now().as_millis()
    }

    pub(super) async fn load_hosts(&self) -> Result<(), LedgerError> {
        let found = self.inner.store.range(keys::HOSTS, &keys::end_of(keys::HOSTS), HOSTS_MAX, false).await?;
        for (key, value) in found {
            let parsed = serde_json::from_slice(&value.value).map_err(|error| LedgerError::unreadable(&key, error));
            if let Some(record) = self.skip_unreadable(parsed.map(Some), None)? {
                self.inner.fleet.lock().expect(POISON).enrolled(record);
            }
        }
        Ok(())
    }

    async fn find_invitation(&self, token: &str) -> Result<(crate::store::Revision, Invited), NotEnrolled> {
        let key = keys::invitation(&self.invitation_digest(token));
        let found = self.inner.store.get(&key).await.map_err(LedgerError::from)?.ok_or(NotEnrolled::NoInvitation)?;
        let invited: Invited =
            serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error))?;
        if invited.expires_at <= self.inner.environment.now() {
            return Err(NotEnrolled::NoInvitation);
        }
        Ok((found.revision, invited))
    }

    /// Makes room for new ones.
    async fn drop_old_invitations(&self) -> Result<(), LedgerError> {
        let (start, end) = (keys::INVITATIONS, keys::end_of(keys::INVITATIONS));
        let found = self.inner.store.range(start, &end, INVITATIONS_MAX, false).await?;
        let now = self.inner.environment.now();
        let is_over = |value: &[u8]| serde_json::from_slice::<Invited>(value).is_ok_and(|one| one.expires_at <= now);
        let over: Vec<Write> = found
            .iter()
            .filter(|(_, record)| is_over(&record.value))
            .take(256)
            .map(|(key, _)| Write::Delete(key.clone()))
            .collect();
        if found.len() - over.len() >= INVITATIONS_MAX {
            let detail =
                format!("there are {INVITATIONS_MAX} invitations that nobody has used; wait until some expire");
            return Err(Problem::new(ProblemCode::Forbidden, detail).into());
        }
        if over.is_empty() { Ok(()) } else { self.write(over).await }
    }

    fn invitation_digest(&self, text: &str) -> String {
        self.inner.seal.digest("invitation", &[text])
    }
}

/// Whether an instance can be one of this host, or with none of the service's own: no executor takes another one's name,
/// and with it what that holds.
fn is_of(instance: &str, host: Option<&HostName>) -> bool {
    let of = instance.split_once('@').map(|(_, host)| host);
    instance.len() <= INSTANCE_BYTES_MAX && of == host.map(HostName::as_str)
}

/// Where others reach an executor that told `address`, and speaks from `from`.
pub(crate) fn reachable(address: SocketAddr, from: std::net::IpAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::new(from.to_canonical(), address.port()) } else { address }
}

/// The digest of a key, in hex.
pub(crate) fn write_key(key: &KeyDigest) -> String {
    HEXLOWER.encode(key)
}

/// The digest that is written so; nothing when it is not.
pub(super) fn parse_key(text: &str) -> Option<KeyDigest> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}
