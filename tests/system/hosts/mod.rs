//! Executors on several hosts: they join, they read one another's objects, they die and come back.

mod clocks;
mod joining;
mod kills;
mod moving;
mod outages;
mod refusals;
