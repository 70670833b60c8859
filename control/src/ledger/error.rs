//! Why a command of the ledger did nothing.

use staccato_protocols::contract::CREDENTIAL;

use crate::{
    model::{Problem, ProblemCode, TransferId, credential::Unusable},
    store::StoreError,
};

use super::unreadable::WHAT_TO_DO;

/// Why a command did nothing (or, for [`LedgerError::Store`], perhaps did).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The client is at fault.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The executor does not hold this transfer any more: it has to stop and touch nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store cannot answer; whether the command was recorded is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A credential that an attempt needs cannot be used.
    #[error(transparent)]
    Unusable(staccato_protocols::Error),
    /// A record cannot be read: written by a newer version, or damaged.
    #[error("the record {key} cannot be read: {why}")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// An executor's message about an attempt that is not its own (any more).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transfer {transfer}, attempt {epoch}: {why}")]
pub struct Refused {
    /// Which transfer.
    pub transfer: TransferId,
    /// Which attempt spoke.
    pub epoch: u64,
    /// Why it is not listened to.
    pub why: &'static str,
}

impl LedgerError {
    /// What a client is told.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Problem(problem) => problem.clone(),
            Self::Refused(refused) => Problem::new(ProblemCode::StateConflict, refused.to_string()),
            Self::Store(error) => Problem::new(ProblemCode::Unavailable, format!("{error}; try again")),
            Self::Unusable(error) => Problem::protocol(CREDENTIAL, error.clone()),
            Self::Unreadable { .. } => {
                Problem::new(ProblemCode::Protocol(staccato_protocols::Code::Internal), format!("{self}; {WHAT_TO_DO}"))
            }
        }
    }

    pub(crate) fn not_found(id: TransferId) -> Self {
        Problem::new(ProblemCode::TransferNotFound, format!("there is no transfer {id}")).into()
    }

    pub(crate) fn unreadable(key: &[u8], why: impl ToString) -> Self {
        Self::Unreadable { key: String::from_utf8_lossy(key).into_owned(), why: why.to_string() }
    }
}

impl From<Unusable> for LedgerError {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable.error)
    }
}
