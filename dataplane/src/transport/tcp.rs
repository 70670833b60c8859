//! TCP between two executors, plain: for links that are trusted, and for tests. Its bytes go from the socket into the
//! chunk's buffer without another stop.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use glommio::{
    GlommioError,
    net::{TcpListener, TcpStream},
};
use staccato_protocols::{Code, Error};

use super::{connection::Stream, remote::Transport};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may move on a connection while something is waited for.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// TCP to one address, as it is.
pub struct PlainTcp {
    address: SocketAddr,
}

impl PlainTcp {
    /// To the executor that listens there.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }
}

impl Transport for PlainTcp {
    fn peer(&self) -> String {
        self.address.to_string()
    }

    fn connect(&self) -> LocalBoxFuture<'_, Result<Box<dyn Stream>, Error>> {
        async move {
            let stream = TcpStream::connect_timeout(self.address, CONNECT_TIMEOUT).await;
            let stream = stream.and_then(|stream| prepare(stream, Some(STALL_TIMEOUT)));
            stream.map_err(|error| {
                let error = io::Error::from(error);
                Error::retry(Code::ConnectFailed, format!("cannot connect to {}: {error}", self.address))
            })
        }
        .boxed_local()
    }
}

/// The next connection of a reader, and where it comes from. A reader may take its time to ask.
pub async fn accept(listener: &TcpListener) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
    let stream = listener.accept().await.map_err(io::Error::from)?;
    let from = stream.peer_addr().map_err(io::Error::from)?;
    Ok((prepare(stream, None).map_err(io::Error::from)?, from))
}

fn prepare(stream: TcpStream, read_timeout: Option<Duration>) -> Result<Box<dyn Stream>, GlommioError<()>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(read_timeout)?;
    stream.set_write_timeout(Some(STALL_TIMEOUT))?;
    Ok(Box::new(stream))
}
