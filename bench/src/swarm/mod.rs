//! Simulates the distribution of one object to many hosts: what decides is the dataplane's own
//! [`swarm`](staccato_dataplane::swarm), what moves the bytes is a discrete-event network in virtual time.
//!
//! [`scene`] says who takes part, what befalls them, and how fast it could be at best; [`network`] shares the links;
//! [`control`] tells hosts of one another and allots the source; [`world`] lets it happen; [`outcome`] is what came of it. The
//! same setup gives the same outcome.

pub mod control;
pub mod network;
pub mod outcome;
pub mod scene;
pub mod world;

pub use outcome::Outcome;
pub use scene::Setup;

/// Lets a distribution happen.
pub fn simulate(setup: &Setup) -> Outcome {
    world::World::run(setup)
}

#[cfg(test)]
mod tests;
