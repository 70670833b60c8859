//! What a transfer is and how it lives: pure values and tables, without clock, store or network.
//!
//! [`transfer`] is the record and the document made from it, [`lifecycle`] the table of states, [`request`] what a
//! client may ask for, [`token`] who may ask, [`credential`] what a request names
//! instead of holding secrets, [`problem`] what it is told when it may not, [`host`] where executors are, [`distribution`]
//! what sends one object to many of them.

pub mod credential;
pub mod distribution;
pub mod host;
pub mod id;
pub mod lifecycle;
mod nearest;
pub mod problem;
pub mod request;
pub mod timestamp;
pub mod token;
pub mod transfer;
pub mod word;

pub use host::{HostName, Place};
pub use id::TransferId;
pub use lifecycle::{Action, Answer, State};
pub use nearest::{did_you_mean, nearest};
pub use problem::{Problem, ProblemCode};
pub use request::{CreateRequest, Priority};
pub use timestamp::Timestamp;
pub use transfer::{Failure, TransferDocument, TransferRecord};
pub use word::{Label, Word};
