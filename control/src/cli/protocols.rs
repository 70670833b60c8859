//! `protocols`: what can be moved from and to.

use super::{Common, Failure, output, token::parse};
use crate::api::protocols::{ProtocolDocument, ProtocolsDocument};

/// Lists the protocols that the service offers.
pub async fn run(common: &Common) -> Result<(), Failure> {
    let answer = common.client()?.get("/v1/protocols").await?;
    if common.json {
        output::json(&answer.body);
        return Ok(());
    }
    let ProtocolsDocument { protocols, broken } = parse(answer.body)?;
    output::line(row("SCHEME", "SOURCE", "DESTINATION", "RESUMES", "ORIGIN"));
    for protocol in protocols {
        let source = match (protocol.source, protocol.ranges) {
            (false, _) => "-",
            (true, true) => "ranges",
            (true, false) => "sequential",
        };
        let destination = protocol.writes.as_deref().unwrap_or("-");
        let resumes = if protocol.resumes { "yes" } else { "-" };
        output::line(row(&protocol.scheme, source, destination, resumes, &protocol.origin));
        options(&protocol).into_iter().for_each(output::line);
    }
    for plugin in broken {
        output::line(format!("{:<10}  cannot be used: the plug-in {}", plugin.scheme, plugin.why));
    }
    Ok(())
}

fn row(scheme: &str, source: &str, destination: &str, resumes: &str, origin: &str) -> String {
    format!("{scheme:<10}  {source:<10}  {destination:<11}  {resumes:<7}  {origin}")
}

/// `  option seed: a number (default none)`.
fn options(protocol: &ProtocolDocument) -> Vec<String> {
    let line = |option: &crate::api::protocols::OptionDocument| {
        let secret = if option.secret { " (secret)" } else { "" };
        format!("  option {}{secret}: {}", option.name, option.help)
    };
    protocol.options.iter().map(line).collect()
}
