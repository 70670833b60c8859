//! `token`: tokens for clients that the operating system cannot name, made at the service's admin socket.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::{Common, Exit, Failure, config::load, output};
use crate::{
    client::{Client, Server},
    config::Flags,
    model::token::{TokenDocument, TokenScope},
};

/// What to do with tokens. Run it on the service's host, as the user that the service runs as.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token, and print it: it is shown this once
    Create(Create),
    /// List tokens, without their texts
    List(At),
    /// Revoke a token: what shows it from now on is refused
    Revoke(Revoke),
}

/// Which service.
#[derive(Debug, Args)]
pub struct At {
    /// The service's data folder [default: as for `serve`]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The service's configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
pub struct Create {
    /// On whose behalf it acts
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// What it allows: read (see the owner's transfers), submit (and make them), admin (everybody's, and every root)
    #[arg(long)]
    scope: TokenScope,
    /// How long it lasts, for instance 90d; for ever unless given
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    at: At,
}

/// Arguments of `token revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Its id, as `token list` shows it
    id: String,
    #[command(flatten)]
    at: At,
}

impl Token {
    /// Does it.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(common).await,
            Self::List(at) => {
                let answer = at.client()?.get("/v1/tokens").await?;
                if common.json {
                    output::json(&answer.body);
                    return Ok(());
                }
                let tokens: Vec<TokenDocument> = parse(answer.body)?;
                output::line(row("ID", "SCOPE", "OWNER", "MADE", "EXPIRES"));
                for token in tokens {
                    let expires = token.expires_at.as_deref().unwrap_or("never");
                    output::line(row(&token.id, &token.scope.to_string(), &token.owner, &token.created_at, expires));
                }
                Ok(())
            }
            Self::Revoke(revoke) => {
                let path = format!("/v1/tokens/{}", revoke.id);
                let id_is_plain = revoke.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if !id_is_plain || revoke.id.is_empty() {
                    return Err(Failure::new(Exit::Usage, format!("{:?} is no id of a token", revoke.id)));
                }
                revoke.at.client()?.request(Method::DELETE, &path, None, &[]).await?;
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self, common: &Common) -> Result<(), Failure> {
        let mut body = json!({"owner": self.owner, "scope": self.scope});
        if let Some(life) = self.expires {
            body["expires_in_seconds"] = life.as_secs().into();
        }
        let answer = self.at.client()?.post("/v1/tokens", &body).await?;
        if common.json {
            output::json(&answer.body);
            return Ok(());
        }
        let made: TokenDocument = parse(answer.body)?;
        let missing = || Failure::new(Exit::Service, "the service's answer has no token");
        output::line(made.token.ok_or_else(missing)?);
        let ends = made.expires_at.map_or("does not expire".to_owned(), |at| format!("expires at {at}"));
        eprintln!("token {} for {} (scope {}) {ends}; it is not shown again", made.id, made.owner, made.scope);
        Ok(())
    }
}

impl At {
    /// A client of the service's admin socket.
    pub fn client(&self) -> Result<Client, Failure> {
        let mut flags = Flags::default();
        flags.file.clone_from(&self.config);
        if let Some(folder) = &self.data_dir {
            flags = flags.with("data-dir", folder.display().to_string());
        }
        Ok(Client::new(Server::Unix(load(&flags)?.admin_socket())))
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(body)
        .map_err(|error| Failure::new(Exit::Service, format!("the service's answer is not understood: {error}")))
}

fn row(id: &str, scope: &str, owner: &str, made: &str, expires: &str) -> String {
    format!("{id:<12}  {scope:<6}  {owner:<20}  {made:<24}  {expires}")
}
