//! `pki`: a certificate authority of the deployment's own.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Exit, Failure, output};
use crate::pki::{Authority, PkiError, certificate_path};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum Pki {
    /// Make an authority in a folder: ca.pem for everybody (--ca), and ca-key.pem, which nobody else may read
    Init(Init),
    /// Make a certificate and its key for a host, for instance for `serve --tls-cert ... --tls-key ...`
    Issue(Issue),
}

/// Arguments of `pki init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What it is called in certificates
    #[arg(long, default_value = "Staccato")]
    name: String,
}

/// Arguments of `pki issue`.
#[derive(Debug, Args)]
pub struct Issue {
    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A name or address under which the host is reached; may be repeated
    #[arg(long = "host", value_name = "NAME", required = true)]
    hosts: Vec<String>,
    /// How long the certificate lasts
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Where the certificate goes; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Where the key goes (mode 0600)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Pki {
    /// Does it, and prints what was made.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        let made = match self {
            Self::Init(init) => {
                Authority::create(&init.dir, &init.name)?;
                json!({"ca": certificate_path(&init.dir)})
            }
            Self::Issue(issue) => {
                let issued = Authority::open(&issue.dir)?.issue(&issue.hosts, issue.expires)?;
                issued.write(&issue.cert, &issue.key)?;
                json!({"cert": issue.cert, "key": issue.key, "ca": certificate_path(&issue.dir)})
            }
        };
        if common.json {
            output::json(&made);
            return Ok(());
        }
        for (name, path) in made.as_object().expect("it was made as one") {
            output::line(format!("{name:<4}  {}", path.as_str().unwrap_or_default()));
        }
        Ok(())
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Failure::new(Exit::Failed, error.to_string())
    }
}
