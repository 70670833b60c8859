//! Measures Staccato beside its rivals and the limits of the hardware, in one run, on one machine.
//!
//! What makes a comparison fair is in [`contest`]: contestants run in interleaved pairs, as processes, each from the
//! same start, each until its bytes are durable. [`cases`] say what is measured, [`contestants`] who takes part.
//! [`measure`] looks at a process and at the machine from outside, [`probe`] asks the hardware itself. [`load`] puts
//! the service under load. [`servers`] are real storage servers, [`storage`] who moves objects to them and from them. [`link`] has both ends of what crosses a network, [`network`] builds networks on this machine,
//! [`relay`] what delays and loses in them. [`spread`] brings one object to many hosts, [`swarm`]
//! simulates that. [`record`] is the format of results, [`report`] shows them, [`cli`] has the
//! commands.

#![warn(missing_docs)]

pub mod alias;
pub mod api;
pub mod cases;
pub mod cli;
pub mod contest;
pub mod contestants;
pub mod host;
pub mod link;
pub mod load;
pub mod matrix;
pub mod measure;
pub mod network;
pub mod probe;
pub mod record;
pub mod relay;
pub mod report;
pub mod server;
pub mod servers;
pub mod service;
pub mod small;
pub mod spread;
pub mod statistics;
pub mod storage;
pub mod swarm;
pub mod worker;
