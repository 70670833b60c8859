//! A plug-in of another user: root's rights.

use super::{
    rights::{started, status},
    *,
};
use crate::config::SystemUser;

#[test]
fn it_runs_as_the_user_that_is_named_and_in_no_other_group() {
    let user = Some(SystemUser { uid: 64_001, gid: 64_002 });
    let process = started(&Launch { user, ..launch(&format!("{HELLO}\n{IDLE}")) });
    assert_eq!(status(process.pid(), "Uid"), "64001 64001 64001 64001");
    assert_eq!(status(process.pid(), "Gid"), "64002 64002 64002 64002");
    assert_eq!(status(process.pid(), "Groups"), "");
    assert_eq!(status(process.pid(), "CapEff"), "0000000000000000");
}
