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

/// How long a reader may ask for nothing before it has to connect again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

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
            let stream = stream.and_then(|stream| prepare(stream, STALL_TIMEOUT));
            stream.map_err(|error| {
                let error = io::Error::from(error);
                Error::retry(Code::ConnectFailed, format!("cannot connect to {}: {error}", self.address))
            })
        }
        .boxed_local()
    }
}

/// The next connection of a reader, and where it comes from. An error is the listener's.
pub async fn accept(listener: &TcpListener) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
    loop {
        let stream = listener.accept().await.map_err(io::Error::from)?;
        // One that is gone already is of no interest.
        let Ok(from) = stream.peer_addr() else { continue };
        if let Ok(stream) = prepare(stream, IDLE_TIMEOUT) {
            return Ok((stream, from));
        }
    }
}

fn prepare(stream: TcpStream, read_timeout: Duration) -> Result<Box<dyn Stream>, GlommioError<()>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(read_timeout))?;
    stream.set_write_timeout(Some(STALL_TIMEOUT))?;
    Ok(Box::new(stream))
}
