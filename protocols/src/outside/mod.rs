//! Executables from outside: how they are started, heard and killed, whatever they are plug-ins of.
//!
//! [`Launch`] says what is started and as whom, with as few rights as can be; [`Group`] is what there is to kill;
//! [`complaints`] brings what they write to standard error into the log; [`trust`] says whose files are run at all.

pub mod complaints;
mod group;
mod launch;
pub mod trust;
mod user;

pub use group::Group;
pub use launch::Launch;
pub use user::SystemUser;
