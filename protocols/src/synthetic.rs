//! Endpoints that cost nothing, for measuring and for tests: what a transfer reads from `zero` and writes to `null` is
//! limited by neither disk nor network.

mod null;
mod zero;

pub use null::NullProtocol;
pub use zero::{SIZE_BYTES_MAX, ZeroProtocol, fill};
