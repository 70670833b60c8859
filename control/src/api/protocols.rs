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
    /// What `source_options` and `destination_options` may hold.
    pub options: Vec<OptionDocument>,
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
            options,
        }
    };
    Json(ProtocolsDocument { protocols: api.ledger.registry().modules().map(describe).collect() })
}
