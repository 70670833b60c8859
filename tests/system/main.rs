//! Whole-system tests, by what they are about. Each starts the built binary; see `../README.md`.

mod actions;
mod architecture;
mod bad_files;
mod bad_requests;
mod bench;
mod command_line;
mod credentials;
mod curl;
mod demo;
mod distributions;
mod handed_over;
mod hosts;
mod http;
mod kills;
mod leases;
mod memory;
mod needs_root;
mod plugins;
mod preflight;
mod progress;
mod repairs;
mod restarts;
mod scheduler;
mod sizes_and_names;
mod storage;
mod tokens;
