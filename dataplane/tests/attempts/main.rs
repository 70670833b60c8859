//! Attempts on real files, on both kinds of lane.

mod files;
mod keeper;
mod resume;
