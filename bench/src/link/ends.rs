//! Our own two ends, as processes: an owner that serves objects, and a reader that reads one.

use std::{io, net::SocketAddr, path::PathBuf, time::Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use staccato_dataplane::yardstick::link::{self, End, OWNER_NAME, Reading, Transport, reader_memory_bytes};
use staccato_protocols::{
    ObjectUrl, Registry,
    file::{FileProtocol, Root, RootAccess, Roots},
    synthetic::NullProtocol,
};

use super::{memory::MemoryProtocol, pki};
use crate::measure::own_cpu_seconds;

/// What both ends have to know.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How bytes cross
    #[arg(long)]
    transport: Transport,
    /// Where the owner's first lane listens; the others follow
    #[arg(long)]
    address: SocketAddr,
    /// Lanes of the owner
    #[arg(long, default_value_t = 1)]
    owner_lanes: usize,
    /// Folder with certificates and the secret that signs tickets
    #[arg(long)]
    pki: PathBuf,
}

impl Common {
    fn end(&self, name: &str, lane_memory_bytes: usize) -> io::Result<End> {
        Ok(End {
            transport: self.transport,
            address: self.address,
            owner_lanes: self.owner_lanes,
            identity: Some(pki::identity(&self.pki, name)?),
            ticket_seed: pki::ticket_seed(&self.pki)?,
            lane_memory_bytes,
        })
    }
}

/// Serves objects until it is ended.
#[derive(Clone, Debug, Args)]
pub struct Own {
    #[command(flatten)]
    common: Common,
    /// Folder that is served, besides memory
    #[arg(long)]
    root: PathBuf,
    /// MiB of memory for the buffers of each lane
    #[arg(long, default_value_t = 64)]
    lane_mib: usize,
}

impl Own {
    /// Does it.
    pub fn run(&self) -> io::Result<()> {
        let root = Root::new(&self.root, RootAccess::ReadOnly).map_err(io::Error::other)?;
        let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root]))).with(MemoryProtocol::new());
        link::own(&self.common.end(OWNER_NAME, self.lane_mib << 20)?, registry).map_err(io::Error::other)
    }
}

/// Reads an object from an owner.
#[derive(Clone, Debug, Args)]
pub struct Fetch {
    #[command(flatten)]
    common: Common,
    /// The object, as its owner knows it
    source: String,
    /// Where it goes
    destination: String,
    /// Its length
    length: u64,
    /// Connections
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Lanes
    #[arg(long, default_value_t = 1)]
    lanes: usize,
    /// MiB of a chunk
    #[arg(long, default_value_t = 4)]
    chunk_mib: u64,
}

/// What a reader tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchTold {
    /// Wall time from the first connection to the commit: lanes, which a service has already, were there.
    pub seconds: f64,
    /// CPU seconds of the same.
    pub cpu_seconds: f64,
}

impl Fetch {
    /// Does it.
    pub fn run(&self) -> io::Result<FetchTold> {
        let everything = Root::new("/", RootAccess::ReadWrite).map_err(io::Error::other)?;
        let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![everything]))).with(NullProtocol);
        let url = |text: &str| ObjectUrl::parse(text).map_err(io::Error::other);
        let chunk_bytes = self.chunk_mib << 20;
        let lanes = self.lanes.clamp(1, self.connections.max(1));
        let memory = reader_memory_bytes(self.connections.div_ceil(lanes), chunk_bytes);
        let end = self.common.end(pki::READER_NAME, memory)?;
        let reading = Reading {
            source: url(&self.source)?,
            destination: url(&self.destination)?,
            length: self.length,
            chunk_bytes,
            connections: self.connections,
            lanes,
        };
        let mut begun = None;
        let begin = || begun = Some((Instant::now(), own_cpu_seconds()));
        link::read(&end, &reading, &registry, begin).map_err(io::Error::other)?;
        let (began, before) = begun.ok_or_else(|| io::Error::other("the reader did not begin"))?;
        Ok(FetchTold { seconds: began.elapsed().as_secs_f64(), cpu_seconds: own_cpu_seconds() - before })
    }
}
