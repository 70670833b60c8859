//! Further hosts for a distribution.

use std::collections::BTreeSet;

use staccato_protocols::{ObjectUrl, Options};

use crate::model::{
    Action, Place, Problem, ProblemCode, TransferId,
    distribution::{DistributionDocument, MEMBERS_MAX, Target},
};

use super::plan_writes;
use crate::ledger::{Ledger, LedgerError, Scope, keys, seal::Secrets};

/// What members of a distribution have in common, as far as that decides which further ones there may be. Has secrets.
pub(crate) struct Common {
    /// Where the object is.
    pub source_url: ObjectUrl,
    /// On which host that is.
    pub source_place: Place,
    /// Options of each destination.
    pub destination_options: Options,
    /// The destination that was asked for, with `{host}` in it.
    pub template: Option<String>,
    /// Whose the members are.
    pub owner: String,
}

impl Ledger {
    /// What further members would have in common with those that there are. `state_conflict` when it has ended for good or
    /// is about to: there can be none then.
    pub(crate) async fn common_to_members(&self, id: TransferId, scope: &Scope) -> Result<Common, LedgerError> {
        let (record, state) = self.distribution(id, scope, |known| (known.record.clone(), known.state()))?;
        check_goes_on(id, state, record.canceled, record.asked)?;
        let secrets = if record.pattern.sealed { self.load_secrets(id).await? } else { Secrets::default() };
        let pattern = record.pattern;
        let source_place = match pattern.source_at() {
            None => Place::Anywhere,
            Some("") => Place::Here,
            Some(host) => {
                Place::Host(host.parse().map_err(|why: String| LedgerError::unreadable(&keys::distribution(id), why))?)
            }
        };
        let source_url = match secrets.source_url {
            Some(url) => url,
            None => ObjectUrl::parse(&pattern.source_url)
                .map_err(|error| LedgerError::unreadable(&keys::distribution(id), error))?,
        };
        let mut destination_options = pattern.destination_options;
        destination_options.extend(secrets.destination_options);
        let (template, owner) = (record.template, pattern.owner);
        Ok(Common { source_url, source_place, destination_options, template, owner })
    }

    /// Adds hosts; those that are members already stay what they are. A host that begins while others are done begins all
    /// the same.
    pub async fn add_to_distribution(
        &self,
        id: TransferId,
        scope: &Scope,
        targets: Vec<Target>,
    ) -> Result<DistributionDocument, LedgerError> {
        self.distribution(id, scope, |_| ())?;
        let mut known_hosts = BTreeSet::new();
        let turn = self.distribution(id, scope, |known| known.adding.clone())?;
        let _turn = turn.lock().await;
        // Plans first: what turns into members meanwhile is found there.
        known_hosts
            .extend(self.plans(id).await?.into_iter().flat_map(|(.., targets)| targets).map(|target| target.host));
        known_hosts.extend(self.members(id).await?.into_iter().map(|(_, figures)| figures.host));
        let new: Vec<Target> = targets.into_iter().filter(|target| !known_hosts.contains(&target.host)).collect();
        if known_hosts.len() + new.len() > MEMBERS_MAX {
            let detail =
                format!("a distribution has at most {MEMBERS_MAX} hosts, and this one has {}", known_hosts.len());
            return Err(Problem::invalid("hosts", detail).into());
        }
        // Before anybody can turn them into members.
        let added = new.len() as u64;
        self.distribution(id, scope, |known| known.pending += added)?;
        let recorded = self
            .change_distribution(id, scope, |record, known| {
                check_goes_on(id, known.state(), record.canceled, record.asked)?;
                let plans = plan_writes(id, record.plans, &new);
                record.plans += plans.len() as u64;
                Ok(((), plans))
            })
            .await;
        if recorded.is_err() {
            let _ = self.distribution(id, scope, |known| known.pending = known.pending.saturating_sub(added));
        }
        recorded?;
        let document = self.distribution_document(id, scope)?;
        if added > 0 {
            self.keep_soon(id);
        }
        Ok(document)
    }
}

fn check_goes_on(
    id: TransferId,
    state: crate::model::State,
    canceled: bool,
    asked: Option<Action>,
) -> Result<(), LedgerError> {
    if !state.is_final() && !canceled && asked != Some(Action::Delete) {
        return Ok(());
    }
    let detail = format!("distribution {id} is in {state}, and takes no further hosts; make another one for them");
    Err(Problem::new(ProblemCode::StateConflict, detail).into())
}
