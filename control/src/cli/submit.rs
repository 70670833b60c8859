//! `submit`: a new transfer.

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};
use staccato_dataplane::attempt::Checksum;

use super::{
    Common, Exit, Failure,
    location::to_url,
    movement::Movement,
    output,
    protocol_options::parse_pair,
    show,
    wait::{follow, report, verdict},
    watch::View,
};
use crate::{config::parse_size, model::did_you_mean};

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// Where the object is: a URL, or a path
    source: String,
    /// Where it shall be: a URL, or a path
    destination: String,
    /// Wait until the transfer has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub(super) options: TransferOptions,
    /// A text of your own that names this request: repeated with the same key, it makes no second transfer
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Options of a transfer.
#[derive(Clone, Debug, Default, Args)]
pub struct TransferOptions {
    /// Any field of the request by its name: overwrite, checksum, priority, retries, rate_limit, chunk_size,
    /// connections, transport, window, start_offset, end_offset; or source_options.NAME, destination_options.NAME
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub options: Vec<(String, String)>,
    #[command(flatten)]
    pub movement: Movement,
    /// Place in the queue: 0 to 9, 9 goes first
    #[arg(long, value_name = "N")]
    pub priority: Option<String>,
    /// Further attempts after failures that may pass
    #[arg(long, value_name = "N")]
    pub retries: Option<String>,
    /// How bytes cross the network between two hosts; by what was measured when absent
    #[arg(long, value_name = "HOW", value_parser = ["auto", "quic", "tcp"])]
    pub transport: Option<String>,
    /// Most bytes under way at a time, for instance 64M; as many as memory allows when absent
    #[arg(long, value_name = "SIZE")]
    pub window: Option<String>,
    /// First byte of the source that is wanted
    #[arg(long, value_name = "OFFSET")]
    pub start: Option<String>,
    /// The byte behind the last one that is wanted
    #[arg(long, value_name = "OFFSET")]
    pub end: Option<String>,
}

/// The fields that `--option` can set, and what their values are.
const FIELDS: [(&str, Kind); 11] = [
    ("overwrite", Kind::Text),
    ("checksum", Kind::Checksum),
    ("priority", Kind::Number),
    ("retries", Kind::Number),
    ("rate_limit", Kind::Size),
    ("chunk_size", Kind::Size),
    ("connections", Kind::Number),
    ("transport", Kind::Text),
    ("window", Kind::Size),
    ("start_offset", Kind::Size),
    ("end_offset", Kind::End),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Checksum,
    Number,
    Size,
    /// A size, or -1.
    End,
}

impl Submit {
    /// Submits the transfer; prints it, or (with `--wait`) how it ended.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let body = self.options.body(&self.source, &self.destination)?;
        let headers: Vec<_> = self.idempotency_key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
        let client = common.client()?;
        let answer = client.request(Method::POST, "/v1/transfers", Some(&body), &headers).await?;
        if !self.wait {
            if common.json {
                output::json(&answer.body);
            } else {
                output::line(show::parse(answer.body)?.id);
            }
            return Ok(());
        }
        let id = show::parse(answer.body)?.id;
        let mut view = (!common.json).then(|| View::new(false));
        let ended = follow(&client, &id, |transfer| {
            if let Some(view) = &mut view {
                view.show(transfer);
            }
        })
        .await;
        if let Some(view) = view {
            view.finish();
        }
        let ended = ended?;
        report(&ended, common.json);
        verdict(&ended)
    }
}

impl TransferOptions {
    /// The body of `POST /v1/transfers`.
    pub fn body(&self, source: &str, destination: &str) -> Result<Value, Failure> {
        let mut body = Map::new();
        body.insert("source_url".into(), to_url(source)?.into());
        body.insert("destination_url".into(), to_url(destination)?.into());
        let how = &self.movement;
        let connections = how.connections.map(|connections| connections.to_string());
        let flags = [
            ("overwrite", how.overwrite.as_ref()),
            ("checksum", how.checksum.as_ref()),
            ("priority", self.priority.as_ref()),
            ("retries", self.retries.as_ref()),
            ("rate_limit", how.rate_limit.as_ref()),
            ("chunk_size", how.chunk_size.as_ref()),
            ("connections", connections.as_ref()),
            ("transport", self.transport.as_ref()),
            ("window", self.window.as_ref()),
            ("start_offset", self.start.as_ref()),
            ("end_offset", self.end.as_ref()),
        ]
        .map(|(name, value)| value.map(|value| (name.to_owned(), value.clone())));
        for (name, value) in self.options.iter().cloned().chain(flags.into_iter().flatten()) {
            set(&mut body, &name, &value)?;
        }
        for (side, options) in
            [("source_options", how.options.source()?), ("destination_options", how.options.destination()?)]
        {
            for (name, value) in options {
                set(&mut body, &format!("{side}.{name}"), &value)?;
            }
        }
        Ok(Value::Object(body))
    }
}

fn set(body: &mut Map<String, Value>, name: &str, text: &str) -> Result<(), Failure> {
    let usage = |why: String| Failure::new(Exit::Usage, format!("{name}: {why}"));
    if let Some((side @ ("source_options" | "destination_options"), option)) = name.split_once('.') {
        let options = body.entry(side).or_insert_with(|| json!({}));
        options[option] = text.into();
        return Ok(());
    }
    let Some((_, kind)) = FIELDS.into_iter().find(|(field, _)| *field == name) else {
        let hint = did_you_mean(name, FIELDS.map(|(field, _)| field));
        return Err(usage(format!(
            "no such option{hint} (options of a protocol: source_options.{name}=... or \
             destination_options.{name}=...)"
        )));
    };
    let value = match kind {
        Kind::Text => text.into(),
        Kind::Checksum => text.parse::<Checksum>().map_err(|error| usage(error.message))?.to_string().into(),
        Kind::Number => text.parse::<u64>().map_err(|_| usage(format!("{text:?} is no whole number")))?.into(),
        Kind::End if text == "-1" => (-1).into(),
        Kind::Size | Kind::End => parse_size(text).map_err(usage)?.into(),
    };
    body.insert(name.to_owned(), value);
    Ok(())
}
