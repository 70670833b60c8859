//! The commands of the binary `staccato`, one file each.
//!
//! A command is added by a file with its arguments and a `run`, and a row in `Command`. What it prints to standard
//! output is its result, in plain words or (`--json`) as JSON; everything else goes to standard error. How it ends is
//! an [`Exit`].

mod action;
mod config;
mod copy;
mod credential;
mod demo;
mod distribute;
mod distributions;
mod executor;
mod executors;
mod exit;
mod group_bars;
mod group_watch;
mod list;
pub mod location;
mod log;
mod movement;
mod orphans;
mod output;
mod pki;
mod protocol;
mod protocol_options;
mod protocols;
mod serve;
mod show;
mod submit;
mod token;
mod wait;
mod watch;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
pub use exit::{Exit, Failure};

use crate::{
    client::{Client, SERVER_DEFAULT, Server},
    config::Environment,
};

/// Moves big objects between storage systems, on behalf of clients that need not live as long as the transfer.
#[derive(Debug, Parser)]
#[command(name = "staccato", version, max_term_width = 110)]
#[command(after_help = exit::HELP)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The service to talk to: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, global = true, value_name = "URL", env = "STACCATO_SERVER", default_value = SERVER_DEFAULT)]
    pub server: Server,
    /// File with the token to show, where one is needed (or put it into STACCATO_TOKEN)
    #[arg(long, global = true, value_name = "FILE", env = "STACCATO_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates to trust instead of the operating system's (PEM), for https
    #[arg(long, global = true, value_name = "FILE", env = "STACCATO_CA")]
    pub ca: Option<PathBuf>,
    /// Print results (and errors) as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: REST API, scheduler and one executor
    Serve(serve::Serve),
    /// Run the executor of this host, for a service on another
    Executor(executor::Executor),
    /// List, invite and forget executors of other hosts
    Executors(executors::Executors),
    /// Submit a transfer
    Submit(submit::Submit),
    /// List your transfers
    List(list::List),
    /// Show a transfer
    Show(show::Show),
    /// Send one object to many hosts
    Distribute(distribute::Distribute),
    /// List your distributions, or show one with its hosts; add and remove hosts
    Distributions(distributions::Distributions),
    /// Follow a transfer or distribution with live bars until it ends
    Watch(watch::Watch),
    /// Wait until a transfer ends
    Wait(wait::Wait),
    /// Cancel a transfer or distribution for ever
    Cancel(action::Target),
    /// Pause a transfer or distribution; what is durable stays
    Pause(action::Target),
    /// Resume a paused or failed transfer or distribution
    Resume(action::Target),
    /// Forget a transfer or distribution; what runs is canceled first
    Delete(action::Target),
    /// Copy one object without a service; run again, it goes on where it stopped
    Copy(copy::Copy),
    /// Show the main job in one minute: a service, a transfer, a SIGKILL, and a copy that is whole all the same
    Demo(demo::Demo),
    /// Measure this machine, Staccato on it, its rivals and its limits
    #[command(subcommand)]
    Bench(staccato_bench::cli::Command),
    /// Make, list and revoke tokens, for clients on other hosts
    #[command(subcommand)]
    Token(token::Token),
    /// Set, list, show and delete named credentials, so that requests need not hold secrets
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Make certificates, where the deployment has no authority of its own
    #[command(subcommand)]
    Pki(pki::Pki),
    /// List the protocols that the service offers, and what each can do
    Protocols,
    /// Check a protocol from outside; find uploads that were left behind
    #[command(subcommand)]
    Protocol(protocol::Protocol),
    /// Print the configuration in force and where each value came from
    Config(config::Config),
}

impl Cli {
    /// Runs the command of this process's arguments.
    pub fn main() -> ExitCode {
        let cli = Self::parse();
        let json = cli.common.json;
        match cli.run() {
            Ok(()) => Exit::Done.into(),
            Err(failure) => {
                failure.print(json);
                failure.exit.into()
            }
        }
    }

    fn run(self) -> Result<(), Failure> {
        let common = self.common;
        Environment::of_process().check().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        // Those that move bytes in this very process. (`bench` does it in processes of its own.)
        if matches!(self.command, Command::Executor(_) | Command::Copy(_)) {
            staccato_dataplane::copies::spare_slow_ones();
        }
        match self.command {
            Command::Serve(command) => command.run(&common),
            Command::Executor(command) => command.run(&common),
            Command::Executors(command) => on_client(command.run(&common)),
            Command::Config(command) => command.run(&common),
            Command::Copy(command) => command.run(&common),
            Command::Token(command) => on_client(command.run(&common)),
            Command::Credential(command) => on_client(command.run(&common)),
            Command::Pki(command) => command.run(&common),
            Command::Protocols => on_client(protocols::run(&common)),
            Command::Protocol(command) => command.run(&common),
            Command::Demo(command) => command.run(&common),
            Command::Bench(command) => command
                .run(&["bench"], common.arguments())
                .map_err(|error| Failure::new(Exit::Failed, error.to_string())),
            Command::Submit(command) => on_client(command.run(&common)),
            Command::List(command) => on_client(command.run(&common)),
            Command::Show(command) => on_client(command.run(&common)),
            Command::Distribute(command) => on_client(command.run(&common)),
            Command::Distributions(command) => on_client(command.run(&common)),
            Command::Watch(command) => on_client(command.run(&common)),
            Command::Wait(command) => on_client(command.run(&common)),
            Command::Cancel(target) => on_client(target.act("cancel", &common)),
            Command::Pause(target) => on_client(target.act("pause", &common)),
            Command::Resume(target) => on_client(target.act("resume", &common)),
            Command::Delete(target) => on_client(target.delete(&common)),
        }
    }
}

impl Common {
    fn client(&self) -> Result<Client, Failure> {
        let client = Client::new(self.server.clone()).with_ca(self.ca.clone());
        Ok(client.with_token(self.token()?))
    }

    /// The arguments that make another command talk to the same service; a token in the environment is inherited.
    fn arguments(&self) -> Vec<String> {
        let files = [("--token-file", &self.token_file), ("--ca", &self.ca)];
        let files =
            files.into_iter().filter_map(|(flag, file)| Some([flag.to_owned(), file.as_ref()?.display().to_string()]));
        [["--server".to_owned(), self.server.to_string()]].into_iter().chain(files).flatten().collect()
    }

    /// The token to show; none when nobody gave one.
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var("STACCATO_TOKEN").ok().filter(|token| !token.is_empty()));
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("the token in {} cannot be read: {error}", path.display()))
        })?;
        match text.trim() {
            "" => Err(Failure::new(Exit::Usage, format!("there is no token in {}", path.display()))),
            token => Ok(Some(token.to_owned())),
        }
    }
}

/// Runs a client command: one thread suffices.
fn on_client<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no event loop can be made: {error}")))?
        .block_on(command)
}
