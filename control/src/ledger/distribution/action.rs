//! What a client asks of a whole distribution.

use staccato_protocols::ObjectUrl;

use crate::model::{Action, Answer, Problem, ProblemCode, State, TransferId};

use crate::ledger::{Ledger, LedgerError, Scope};

/// One end of a transfer: the field that names it, its URL as it may be shown, and its host if it is only there.
pub type End = (&'static str, ObjectUrl, Option<String>);

impl Ledger {
    /// Cancels, pauses or resumes a distribution. What was asked is durable when this returns, and done to one member
    /// after the other behind the caller's back ([`Answer::Underway`]); members that cannot do it now are left as they
    /// are. `state_conflict` where it makes no sense in the distribution's state.
    pub async fn act_on_distribution(
        &self,
        id: TransferId,
        action: Action,
        scope: &Scope,
    ) -> Result<Answer, LedgerError> {
        let now = self.inner.environment.now();
        let answer = self
            .change_distribution(id, scope, |record, known| {
                let state = known.state();
                let conflict = |why: String| {
                    let detail = format!("cannot {} distribution {id}: {why}", action.as_str());
                    LedgerError::from(Problem::new(ProblemCode::StateConflict, detail))
                };
                let answer = record.answer(action, state, &known.rollup);
                match answer {
                    Answer::Conflict if record.asked == Some(Action::Delete) => {
                        return Err(conflict("it is being deleted".into()));
                    }
                    Answer::Conflict if action == Action::Resume && state != State::Canceling => {
                        return Err(conflict("none of its members is paused or has failed".into()));
                    }
                    Answer::Conflict => return Err(conflict(format!("it is in {state}"))),
                    Answer::Done => return Ok((answer, Vec::new())),
                    Answer::Underway => {}
                }
                match action {
                    Action::Cancel => record.canceled = true,
                    Action::Pause => record.paused = true,
                    Action::Resume if record.deadline.is_some_and(|deadline| deadline <= now) => {
                        return Err(conflict("its deadline has passed; make another distribution".into()));
                    }
                    Action::Resume => {
                        (record.paused, record.canceled, record.stopped) = (false, false, None);
                    }
                    Action::Delete => {}
                }
                record.ask(action);
                Ok((answer, Vec::new()))
            })
            .await?;
        if answer == Answer::Underway {
            self.keep_soon(id);
        }
        Ok(answer)
    }

    /// Both ends of each member that could be resumed: whoever resumes them must be allowed to use these.
    pub(crate) async fn ends_of_resumable(&self, id: TransferId, scope: &Scope) -> Result<Vec<End>, LedgerError> {
        self.distribution(id, scope, |_| ())?;
        let at_rest = |state| matches!(state, State::Paused | State::Error);
        let members = self.members(id).await?;
        let ids = members.into_iter().filter(|(_, figures)| at_rest(figures.state)).map(|(id, _)| id).collect();
        let mut ends = Vec::new();
        for record in self.load_each(ids).await? {
            let host = |at: Option<&str>| at.map(str::to_owned);
            // Only a URL with a query is shown otherwise than it is, and so perhaps too long: no file has one.
            if let Ok(url) = ObjectUrl::parse(&record.source_url) {
                ends.push(("source_url", url, host(record.source_at())));
            }
            if let Ok(url) = ObjectUrl::parse(&record.destination_url) {
                ends.push(("destination_url", url, host(record.destination_at())));
            }
        }
        Ok(ends)
    }
}
