//! `watch`: a transfer, or a distribution, with live bars.

use clap::Args;

use super::{
    Common, Exit, Failure, group_watch,
    wait::{follow, report, verdict},
};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Id of the transfer, or of a distribution
    id: String,
}

impl Watch {
    /// Follows it until it ends.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = common.client()?;
        let mut view = View::new(common.json);
        let ended = follow(&client, &self.id, |transfer| view.show(transfer)).await;
        view.finish();
        let ended = match ended {
            Err(missing) if missing.exit == Exit::NotFound => {
                let watched = group_watch::watch(&client, &self.id, common.json).await;
                return watched.map_err(|failure| if failure.exit == Exit::NotFound { missing } else { failure });
            }
            ended => ended?,
        };
        if !common.json {
            report(&ended, false);
        }
        verdict(&ended)
    }
}

pub(super) use view::View;

mod view {
    use std::io::{IsTerminal as _, stderr};

    use indicatif::{ProgressBar, ProgressStyle};

    use crate::{
        cli::output,
        model::{State, TransferDocument},
    };

    /// Shows a transfer on standard error as it changes until it ends: a bar on a terminal, else one line for each
    /// change of state. How it ended is the command's result, and printed by [`report`](crate::cli::wait::report).
    /// With `json`, the changes are the result: one document on a line of standard output for each, the last included.
    pub enum View {
        Bar(ProgressBar),
        Lines { last: Option<State> },
        Json { last: Option<Box<TransferDocument>> },
    }

    impl View {
        pub fn new(json: bool) -> Self {
            if json {
                Self::Json { last: None }
            } else if stderr().is_terminal() {
                let bar = ProgressBar::no_length();
                bar.set_style(style(None));
                Self::Bar(bar)
            } else {
                Self::Lines { last: None }
            }
        }

        pub fn show(&mut self, transfer: &TransferDocument) {
            match self {
                Self::Bar(bar) => {
                    if let Some(total) = transfer.bytes_total.filter(|_| bar.length() != transfer.bytes_total) {
                        bar.set_length(total);
                        bar.set_style(style(Some(total)));
                    }
                    bar.set_position(transfer.progress);
                    bar.set_message(message(transfer));
                }
                Self::Lines { .. } if transfer.state.is_ended() => (),
                Self::Lines { last } => {
                    if last.replace(transfer.state) != Some(transfer.state) {
                        eprintln!("{}", output::row(transfer));
                    }
                }
                Self::Json { last } => {
                    if last.as_deref() != Some(transfer) {
                        output::line(serde_json::to_string(transfer).expect("a document is always JSON"));
                        *last = Some(Box::new(transfer.clone()));
                    }
                }
            }
        }

        pub fn finish(self) {
            if let Self::Bar(bar) = self {
                bar.finish_and_clear();
            }
        }
    }

    fn style(total: Option<u64>) -> ProgressStyle {
        let template = match total {
            Some(_) => "{bar:30} {percent:>3} % {binary_bytes} of {binary_total_bytes} {msg}",
            None => "{spinner} {binary_bytes} {msg}",
        };
        ProgressStyle::with_template(template).expect("the templates are well-formed").progress_chars("=> ")
    }

    fn message(transfer: &TransferDocument) -> String {
        let mut message = transfer.state.to_string();
        if let Some(rate) = transfer.throughput {
            message += &format!(", {}/s", output::approximate(rate));
        }
        if let Some(seconds) = transfer.eta {
            message += &format!(", {seconds} s left");
        }
        if transfer.attempts > 1 {
            message += &format!(", attempt {}", transfer.attempts);
        }
        if let Some(error) = &transfer.error {
            message += &format!(", {}", error.code);
        }
        message
    }
}
