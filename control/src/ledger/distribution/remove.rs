//! A host that is to be none of a distribution's any more.

use crate::model::{Answer, Problem, ProblemCode, TransferId, distribution::named};

use crate::ledger::{Ledger, LedgerError, Scope};

impl Ledger {
    /// Removes a host: its transfer is deleted as any other, being canceled first where it runs ([`Answer::Underway`]), and
    /// counts no more in its distribution. What is committed there stays. `member_not_found` when the host is no member.
    pub async fn remove_from_distribution(
        &self,
        id: TransferId,
        scope: &Scope,
        host: &str,
    ) -> Result<Answer, LedgerError> {
        if self.distribution(id, scope, |known| known.pending > 0)? {
            // It may be among those that are no members yet.
            self.keep(id).await?;
        }
        let own_host = self.inner.config.own_host.as_str();
        let members = self.members(id).await?;
        let member = members.into_iter().find(|(_, figures)| named(&figures.host, own_host) == host);
        let Some((member, _)) = member else {
            let detail = format!("{host:?} is no host of distribution {id}");
            return Err(Problem::new(ProblemCode::MemberNotFound, detail).into());
        };
        self.delete(member, scope).await
    }
}
