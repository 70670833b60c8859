//! A transfer followed to its end, as somebody at a terminal sees it, or somebody who reads a log.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::say;
use crate::client::Client;

/// What happens half-way: done once, and told in a line.
pub(super) type HalfWay<'a> = &'a mut dyn FnMut() -> Result<String, String>;

/// How a transfer ended that is complete.
pub(super) struct Followed {
    /// Its document.
    pub document: Value,
    /// What was durable when `half_way` was done.
    pub durable_half_way: u64,
}

/// Shows the progress of a transfer of so many bytes until it is complete.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    bytes: u64,
    mut half_way: Option<HalfWay<'_>>,
) -> Result<Followed, String> {
    let bar = ProgressBar::new(bytes);
    let style = "   [{bar:40}] {bytes}/{total_bytes} {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?.progress_chars("=> "));
    let on_terminal = std::io::stderr().is_terminal();
    let (mut durable_half_way, mut shown) = (0, 0);
    loop {
        let document = client.get(&format!("/v1/transfers/{id}")).await.map_err(|error| error.to_string())?.body;
        let (state, progress) =
            (document["state"].as_str().unwrap_or_default(), document["progress"].as_u64().unwrap_or(0));
        bar.set_position(progress);
        bar.set_message(format!("{state} attempt {}", document["attempts"]));
        // Without a terminal there is no bar: a line for every tenth.
        if !on_terminal && progress / (bytes / 10).max(1) > shown {
            shown = progress / (bytes / 10).max(1);
            say(&format!(
                "   {:>3} % durable, {state}, attempt {}",
                progress * 100 / bytes.max(1),
                document["attempts"]
            ));
        }
        match state {
            "STATE_COMPLETE" if half_way.is_some() => {
                return Err("the transfer was over before anybody could be killed; try a larger image (--size)".into());
            }
            "STATE_COMPLETE" => {
                bar.finish();
                return Ok(Followed { document, durable_half_way });
            }
            "STATE_ERROR" | "STATE_CANCELED" => return Err(format!("the transfer failed: {}", document["error"])),
            _ => (),
        }
        if progress >= bytes / 2
            && let Some(half_way) = half_way.take()
        {
            let line = half_way()?;
            durable_half_way = progress;
            bar.suspend(|| say(&line));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
