//! `GET /v1/protocols`: what can be moved from and to.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use staccato_protocols::contract::CREDENTIAL;
use utoipa::ToSchema;

use super::{Api, openapi::Doors};

/// Every protocol on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtocolsDocument {
    /// In the order of their schemes.
    pub protocols: Vec<ProtocolDocument>,
    /// Plug-ins that cannot be used, in the order of their schemes.
    pub broken: Vec<BrokenDocument>,
}

/// A protocol on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtocolDocument {
    /// The scheme of its URLs.
    pub scheme: String,
    /// Whether it can be read from.
    pub source: bool,
    /// Whether it can be written to.
    pub destination: bool,
    /// Whether objects are read in ranges, several at once, as far as their servers play along.
    pub ranges: bool,
    /// How destinations take bytes: `anywhere`, in `parts`, or `in_order`; null where it is no destination.
    pub writes: Option<String>,
    /// Whether a later attempt finds what an earlier one wrote.
    pub resumes: bool,
    /// Where it comes from: `built_in`, or `plug_in`.
    pub origin: String,
    /// What `source_options` and `destination_options` may hold.
    pub options: Vec<OptionDocument>,
}

/// A plug-in that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokenDocument {
    /// The scheme that it should add.
    pub scheme: String,
    /// What is wrong: it ...
    pub why: String,
}

/// An option of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OptionDocument {
    /// Its name; one that ends in `.*` stands for every name with that prefix.
    pub name: String,
    /// Whether its value is a secret: sealed where it is kept, and never shown.
    pub secret: bool,
    /// Meaning, unit and default.
    pub help: String,
}

/// The protocols on offer, with what each can do.
#[utoipa::path(get, path = "/v1/protocols", tag = "service", responses((status = 200, description = "The protocols", body = ProtocolsDocument), Doors))]
pub async fn list_protocols(State(api): State<Api>) -> Json<ProtocolsDocument> {
    let registry = api.ledger.registry();
    let describe = |(scheme, module): (&str, &staccato_protocols::contract::SharedProtocol)| {
        let capabilities = module.capabilities();
        let option = |spec: &staccato_protocols::contract::OptionSpec| OptionDocument {
            name: spec.name.into(),
            secret: spec.secret,
            help: spec.help.into(),
        };
        let mut options: Vec<OptionDocument> = capabilities.options.iter().map(option).collect();
        if options.iter().any(|option| option.secret) {
            let help = "name of a credential whose options stand in for it; `staccato credential list` shows yours";
            options.push(OptionDocument { name: CREDENTIAL.into(), secret: false, help: help.into() });
        }
        ProtocolDocument {
            scheme: scheme.to_owned(),
            source: capabilities.source,
            destination: capabilities.destination,
            ranges: module.reads_ranges(),
            writes: capabilities.destination.then(|| capabilities.takes.as_str().into()),
            resumes: module.resumes(),
            origin: if registry.is_from_outside(scheme) { "plug_in" } else { "built_in" }.into(),
            options,
        }
    };
    let broken = |(scheme, why): (&str, &str)| BrokenDocument { scheme: scheme.into(), why: why.into() };
    Json(ProtocolsDocument {
        protocols: registry.modules().map(describe).collect(),
        broken: registry.broken().map(broken).collect(),
    })
}
