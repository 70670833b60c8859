//! How commands end.

use std::process::ExitCode;

use serde_json::json;

use crate::client::ClientError;

/// The exit code of a command. Stable: scripts rely on them; they are listed in this crate's README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Done = 0,
    /// The transfer failed or was canceled, or the command itself could not do its work.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// There is no such transfer, or it is somebody else's.
    NotFound = 3,
    /// Not possible in the transfer's state, or another transfer stands in the way.
    Conflict = 4,
    /// The service cannot be reached.
    Unreachable = 5,
    /// The service refused the request.
    Refused = 6,
    /// The service failed, or answered in a way that is not understood.
    Service = 7,
}

/// What `--help` says about exit codes.
pub(super) const HELP: &str = "\
Exit codes: 0 done; 1 the transfer failed or was canceled, or the command could not do its work; 2 wrong arguments or \
configuration; 3 no such transfer; 4 conflict; 5 service unreachable; 6 request refused; 7 service failed";

/// Why a command did not do what was asked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// The stable code, where the service gave one.
    pub code: Option<String>,
    /// One sentence for people.
    pub message: String,
}

impl Failure {
    /// A failure without a code of the service.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into() }
    }

    /// Prints it to standard error.
    pub(super) fn print(&self, json: bool) {
        if json {
            let document = json!({ "error": { "code": self.code, "message": self.message, "exit": self.exit as u8 } });
            eprintln!("{document}");
        } else {
            let code = self.code.as_ref().map_or(String::new(), |code| format!(" [{code}]"));
            eprintln!("staccato: {}{code}", self.message);
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = match &error {
            ClientError::Refused(problem) => match &problem.field {
                Some(field) => format!("{} (at {field})", problem.detail),
                None => problem.detail.clone(),
            },
            _ => error.to_string(),
        };
        let (exit, code) = match error {
            ClientError::Unreachable { .. } => (Exit::Unreachable, None),
            ClientError::NotUnderstood { .. } => (Exit::Service, None),
            ClientError::Unusable(_) => (Exit::Usage, None),
            ClientError::Refused(problem) => {
                let exit = match problem.status {
                    404 => Exit::NotFound,
                    409 => Exit::Conflict,
                    500.. => Exit::Service,
                    _ => Exit::Refused,
                };
                (exit, Some(problem.code))
            }
        };
        Self { exit, code, message }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
