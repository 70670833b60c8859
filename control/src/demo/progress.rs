//! A transfer, or several, followed to the end, as somebody at a terminal sees it, or somebody who reads a log.

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

/// How far something of so many bytes is: a bar; without a terminal a line for every tenth.
pub(super) struct Course {
    bar: ProgressBar,
    bytes: u64,
    on_terminal: bool,
    tenths_shown: u64,
}

impl Course {
    pub fn of(bytes: u64) -> Result<Self, String> {
        let bar = ProgressBar::new(bytes);
        let style = "   [{bar:40}] {bytes}/{total_bytes} {msg}";
        bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?.progress_chars("=> "));
        Ok(Self { bar, bytes, on_terminal: std::io::stderr().is_terminal(), tenths_shown: 0 })
    }

    /// So many bytes are durable; `how` says more.
    pub fn show(&mut self, progress: u64, how: &str) {
        self.bar.set_position(progress);
        self.bar.set_message(how.to_owned());
        let tenths = progress / (self.bytes / 10).max(1);
        if !self.on_terminal && tenths > self.tenths_shown {
            self.tenths_shown = tenths;
            say(&format!("   {:>3} % durable, {how}", progress * 100 / self.bytes.max(1)));
        }
    }

    /// Says something above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    pub fn finish(self) {
        self.bar.finish();
    }
}

/// Shows the progress of a transfer of so many bytes until it is complete.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    bytes: u64,
    mut half_way: Option<HalfWay<'_>>,
) -> Result<Followed, String> {
    let (mut course, mut durable_half_way) = (Course::of(bytes)?, 0);
    loop {
        let document = client.get(&format!("/v1/transfers/{id}")).await.map_err(|error| error.to_string())?.body;
        let (state, progress) =
            (document["state"].as_str().unwrap_or_default(), document["progress"].as_u64().unwrap_or(0));
        course.show(progress, &format!("{state}, attempt {}", document["attempts"]));
        match state {
            "STATE_COMPLETE" if half_way.is_some() => {
                return Err("the transfer was over before anybody could be killed; try a larger image (--size)".into());
            }
            "STATE_COMPLETE" => {
                course.finish();
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
            course.say(&line);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
