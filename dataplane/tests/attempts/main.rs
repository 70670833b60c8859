//! Attempts on real files, on both kinds of lane.

mod checksums;
mod commits;
mod files;
mod keeper;
mod repair;
mod resume;
mod shelf;
mod stages;
mod uploads;
