//! The client's options for Glance, parsed once.

use crate::{
    Error, Options,
    contract::OptionSpec,
    keystone::{Account, AccountOptions, account},
    web::settings::{self, Settings, invalid},
};

/// Valid options.
#[derive(Debug)]
pub(super) struct GlanceOptions {
    /// Who asks.
    pub account: Account,
    /// Those that every module has.
    pub settings: Settings,
}

/// The names of all of them.
pub(super) const ALL: &[OptionSpec] = &all();

const OWN: [OptionSpec; 4] =
    [settings::CA, settings::CONNECT_TIMEOUT, settings::STALL_TIMEOUT, settings::TOTAL_TIMEOUT];

const fn all() -> [OptionSpec; account::OPTIONS.len() + OWN.len()] {
    let mut all = [OWN[0]; account::OPTIONS.len() + OWN.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < account::OPTIONS.len() { account::OPTIONS[at] } else { OWN[at - account::OPTIONS.len()] };
        at += 1;
    }
    all
}

impl GlanceOptions {
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let (mut account, mut settings) = (AccountOptions::default(), Settings::default());
        for (name, value) in options {
            if !account.take(name, value)? && !settings.take(name, value)? {
                return Err(invalid(format!("{name:?} is not an option of glance")));
            }
        }
        Ok(Self { account: account.finish()?, settings })
    }
}
