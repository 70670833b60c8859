//! Keystone vouches for whoever asks us: what it tells of a caller's token.

use std::time::Duration;

use super::{
    account,
    secret::Secret,
    server::{LookedUp, Server},
};
use crate::{
    Error,
    web::{self, Web, settings::Settings},
};

/// Longest wait for a connection, and for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Asks one Keystone about tokens of callers.
#[derive(Clone)]
pub struct Callers {
    web: Web,
    settings: Settings,
    auth_url: String,
}

/// Somebody whose token is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Id of the project the token is for; none where it is for no project.
    pub project: Option<String>,
    /// The user's name.
    pub user: String,
    /// Names of the roles the user has in that project.
    pub roles: Vec<String>,
    /// How long the token lives from now on.
    pub lives: Duration,
}

impl Callers {
    /// Of the Keystone at `auth_url`; `ca`: certificates in PEM that are trusted as roots besides the operating system's.
    pub fn new(web: Web, auth_url: &str, ca: Option<&str>) -> Result<Self, Error> {
        let mut settings = Settings { stall_timeout: ANSWER_MAX, connect_timeout: ANSWER_MAX, ..Settings::default() };
        if let Some(ca) = ca {
            settings.take("ca", ca)?;
        }
        let callers = Self { web, settings, auth_url: account::versioned(&account::base("keystone_url", auth_url)?) };
        Server::new(&callers.web, &callers.settings, &callers.auth_url)?;
        Ok(callers)
    }

    /// Whose token it is, asked with that very token; none where Keystone does not know it, or not any more. Blocks for at
    /// most some seconds.
    pub fn whose(&self, token: &str) -> Result<Option<Caller>, Error> {
        web::block_on(async {
            let server = Server::new(&self.web, &self.settings, &self.auth_url)?;
            let looked_up = server.look_up(&Secret::new(token)).await?;
            Ok(match looked_up {
                LookedUp::Unknown => None,
                LookedUp::Valid(issued) => Some(Caller {
                    project: issued.document.project.map(|project| project.id),
                    user: issued.document.user.name,
                    roles: issued.document.roles.into_iter().map(|role| role.name).collect(),
                    lives: issued.lives,
                }),
            })
        })
    }
}
