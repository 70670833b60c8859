//! `copy`: one object, moved by this process, without a service.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use staccato_dataplane::attempt::{Checksum, StartOver};
use staccato_protocols::{
    Code, Error, ObjectUrl,
    contract::Overwrite,
    file::{Root, RootAccess},
    web::networks::Networks,
};

use super::{Common, Exit, Failure, config::load, location::to_url, log, movement::Movement, on_client, output};
use crate::{
    config::{Flags, parse_size, registry},
    copy::{self, CopyRequest, News},
};

/// Arguments of `copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// Where the object is: a URL, or a path
    source: String,
    /// Where it shall be: a URL, or a path
    destination: String,
    #[command(flatten)]
    movement: Movement,
    /// Which lanes move files to files: auto, tokio-uring or glommio
    #[arg(long)]
    lane: Option<String>,
    /// Lanes of each kind
    #[arg(long, value_name = "N")]
    lanes: Option<String>,
    /// Most memory for buffers
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Folders with executables staccato-protocol-NAME, each of which adds the scheme NAME
    #[arg(long, value_name = "DIR[:DIR]")]
    plugin_path: Option<String>,
    /// What is logged to standard error
    #[arg(long, value_name = "FILTER", env = "STACCATO_LOG", default_value = "warn")]
    log: String,
}

impl Copy {
    /// Copies, and prints what came of it.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        let request = self.request()?;
        // Of the settings of a service, a copy obeys those that say how bytes are moved; it keeps no data, so any
        // folder passes that needs no looking for and is not too long.
        let mut flags = Flags::default().with("data-dir", "/").with("log", &self.log);
        let given = [
            ("lane", &self.lane),
            ("lanes", &self.lanes),
            ("memory", &self.memory),
            ("chunk-size", &self.movement.chunk_size),
            ("plugin-path", &self.plugin_path),
        ];
        for (flag, value) in given {
            if let Some(value) = value {
                flags = flags.with(flag, value);
            }
        }
        let config = load(&flags)?;
        // Whoever copies by hand may do what the operating system lets them.
        let everything = Root::new("/", RootAccess::ReadWrite).map_err(Failure::from)?;
        let registry = config.with_plugins(registry(&[everything.into()], config.allow_http, Networks::any()));

        let bar = if common.json { ProgressBar::hidden() } else { ProgressBar::no_length() };
        let template =
            "{bar:30} {percent:>3} % {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        bar.set_style(style.progress_chars("=> "));
        log::beside(&bar, &config.log);
        let mut progress = |news: News| match news {
            News::Durable(done, total) => {
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            News::StartedOver(bytes, reason) => bar.suspend(|| {
                let why = match reason {
                    StartOver::SourceChanged => "the source has changed",
                    StartOver::SourceUnversioned => "the source does not tell its version",
                    StartOver::PartialGone => "what it wrote is gone",
                };
                eprintln!("staccato: {why}; the copy starts over ({bytes} bytes of an earlier run are of no use)");
            }),
        };
        let copying = copy::run(request, config.dataplane(), registry, &mut progress);
        let copied = on_client(async { copying.await.map_err(Failure::from) });
        bar.finish_and_clear();
        let copied = copied?;
        if common.json {
            output::json(&serde_json::to_value(&copied).expect("numbers and strings"));
        } else {
            let rate = copied.bytes_fetched as f64 / copied.seconds.max(f64::EPSILON);
            output::line(format!(
                "{} bytes in {:.2} s ({}/s){}{}",
                copied.bytes_total,
                copied.seconds,
                output::approximate(rate as u64),
                copied.crc32.map_or(String::new(), |crc| format!(", crc32 {crc}")),
                match copied.bytes_resumed {
                    0 => String::new(),
                    bytes => format!(", {bytes} bytes from an earlier run"),
                },
            ));
        }
        Ok(())
    }

    fn request(&self) -> Result<CopyRequest, Failure> {
        let usage = |name: &'static str| move |why: String| Failure::new(Exit::Usage, format!("{name}: {why}"));
        let how = &self.movement;
        let rate_limit = how.rate_limit.as_deref().map(parse_size).transpose().map_err(usage("--rate-limit"))?;
        if rate_limit == Some(0) {
            return Err(Failure::new(Exit::Usage, "--rate-limit: nothing moves at 0 bytes per second"));
        }
        let source = ObjectUrl::parse(&to_url(&self.source)?)?;
        let destination = ObjectUrl::parse(&to_url(&self.destination)?)?;
        if source == destination {
            return Err(Failure::new(Exit::Usage, "source and destination are the same object"));
        }
        let checksum = how.checksum.as_deref().map(str::parse::<Checksum>).transpose();
        Ok(CopyRequest {
            source,
            destination,
            source_options: how.options.source()?,
            destination_options: how.options.destination()?,
            overwrite: match how.overwrite.as_deref() {
                None => Overwrite::Never,
                Some("repair") => Overwrite::Repair,
                Some(_) => Overwrite::Always,
            },
            checksum: checksum.map_err(|error| usage("--checksum")(error.message))?,
            rate_limit,
            connections: how.connections,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code {
            Code::InvalidUrl | Code::InvalidOption | Code::UnsupportedScheme => Exit::Usage,
            _ => Exit::Failed,
        };
        Self { exit, code: Some(error.code.as_str().into()), message: error.message }
    }
}
