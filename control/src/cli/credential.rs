//! `credential`: named credentials, so that requests need not hold secrets.

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{
    Common, Exit, Failure, output,
    protocol_options::{options, parse_pair},
    token::parse,
};
use crate::model::credential::{CredentialDocument, CredentialName, Kept};

/// What to do with credentials: your own, and as an admin (--server unix:DATA_DIR/admin.sock) anybody's.
#[derive(Debug, Subcommand)]
pub enum Credential {
    /// Set a credential: all of it, whatever it was before
    Set(Set),
    /// List the credentials that you may use, without their values
    List,
    /// Show a credential, without its values
    Show(Target),
    /// Forget a credential; attempts that need it fail from then on
    Delete(Target),
}

/// Which credential.
#[derive(Debug, Args)]
pub struct Target {
    /// Its name
    name: CredentialName,
    #[command(flatten)]
    whose: Whose,
}

/// Whose credential; one's own unless told.
#[derive(Debug, Args)]
struct Whose {
    /// Whose it is; yours when absent, another's as an admin
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// It is everybody's; as an admin
    #[arg(long, conflicts_with = "owner")]
    everybody: bool,
}

/// Arguments of `credential set`.
#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    target: Target,
    /// A scheme that it is for, for instance https; may be repeated
    #[arg(long = "scheme", value_name = "SCHEME", required = true)]
    schemes: Vec<String>,
    /// It is only for URLs below this one, SCHEME://HOST[:PORT][/PATH]; may be repeated. Needed for http and https, whose
    /// secrets go to the server that a URL names
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// An option of the schemes' protocols. Others on this host may see it while the command runs: no place for a secret
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_pair)]
    options: Vec<(String, String)>,
    /// The same, its value being what a file holds (without a line break at its end); - is the standard input
    #[arg(long = "option-file", value_name = "NAME=PATH", value_parser = parse_pair)]
    option_files: Vec<(String, String)>,
}

impl Credential {
    /// Does it.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Set(set) => set.run(common).await,
            Self::List => {
                let answer = common.client()?.get("/v1/credentials").await?;
                if common.json {
                    output::json(&answer.body);
                    return Ok(());
                }
                let credentials: Vec<CredentialDocument> = parse(answer.body)?;
                output::line(row("NAME", "OWNER", "KEPT", "SCHEMES", "OPTIONS"));
                for one in credentials {
                    let (schemes, options) = (one.schemes.join(","), one.options.join(","));
                    output::line(row(&one.name, owner(&one), kept(one.kept), &schemes, &options));
                }
                Ok(())
            }
            Self::Show(target) => {
                let answer = common.client()?.get(&target.path()).await?;
                show(common, answer.body)
            }
            Self::Delete(target) => {
                common.client()?.request(Method::DELETE, &target.path(), None, &[]).await?;
                Ok(())
            }
        }
    }
}

impl Target {
    fn path(&self) -> String {
        let owner = match &self.whose {
            Whose { everybody: true, .. } => "?owner=*".to_owned(),
            Whose { owner: Some(owner), .. } => format!("?owner={}", utf8_percent_encode(owner, NON_ALPHANUMERIC)),
            Whose { owner: None, .. } => String::new(),
        };
        format!("/v1/credentials/{}{owner}", self.name)
    }
}

impl Set {
    async fn run(self, common: &Common) -> Result<(), Failure> {
        if !common.server.keeps_secrets() {
            let why = "a credential is not sent over plain http to another host; write https://HOST:PORT";
            return Err(Failure::new(Exit::Usage, why));
        }
        let options = options(&self.options, &self.option_files)?;
        let body = json!({"schemes": self.schemes, "urls": self.urls, "options": options});
        let answer = common.client()?.request(Method::PUT, &self.target.path(), Some(&body), &[]).await?;
        show(common, answer.body)
    }
}

fn show(common: &Common, body: serde_json::Value) -> Result<(), Failure> {
    if common.json {
        output::json(&body);
        return Ok(());
    }
    let one: CredentialDocument = parse(body)?;
    let mut facts =
        vec![("name", one.name.clone()), ("owner", owner(&one).to_owned()), ("kept", kept(one.kept).to_owned())];
    facts.extend(one.schemes.iter().map(|scheme| ("scheme", scheme.clone())));
    facts.extend(one.urls.iter().map(|url| ("below", url.clone())));
    facts.extend(one.options.iter().map(|option| ("option", option.clone())));
    facts.extend(one.changed_at.iter().map(|at| ("changed", at.clone())));
    for (name, value) in facts {
        output::line(format!("{name:<14} {value}"));
    }
    Ok(())
}

fn owner(credential: &CredentialDocument) -> &str {
    credential.owner.as_deref().unwrap_or("everybody")
}

fn kept(kept: Kept) -> &'static str {
    match kept {
        Kept::Sealed => "sealed",
        Kept::File => "file",
        Kept::Environment => "environment",
    }
}

fn row(name: &str, owner: &str, kept: &str, schemes: &str, options: &str) -> String {
    format!("{name:<20}  {owner:<20}  {kept:<11}  {schemes:<16}  {options}")
}
