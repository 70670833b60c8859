//! Attempts on real files, on both kinds of lane.

mod commits;
mod files;
mod keeper;
mod resume;
mod stages;
