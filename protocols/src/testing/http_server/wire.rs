//! Connections, and the requests that come over them.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::Seen;

/// Largest request head that is read.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// A connection, with TLS or without.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Reads until the peer has had enough.
    pub fn wait_for_peer(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Closes in an orderly way.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }

    /// Makes the coming close a reset (RST).
    pub fn reset(&mut self) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(self.socket(), Some(Duration::ZERO))?)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Reads what follows the head of a request. A client that breaks off is seen, too.
pub(super) fn read_body(wire: &mut BufReader<Wire>, request: &mut Seen) {
    let whole = if request.headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        read_chunks(wire, &mut request.body)
    } else {
        let length = request.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        read_exactly(wire, length, &mut request.body)
    };
    request.whole = whole.is_ok();
}

/// The next request of a connection, its body still to come; none at its end.
pub(super) fn read_head(wire: &mut BufReader<Wire>, connection: usize) -> io::Result<Option<Seen>> {
    let mut head = wire.take(REQUEST_BYTES_MAX);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => {
                let (body, at) = (Vec::new(), Instant::now());
                return Ok(Some(Seen { method, target, headers, body, whole: false, connection, at }));
            }
        };
    }
}

fn read_exactly(wire: &mut impl Read, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = wire.take(length).read_to_end(body)? as u64;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_chunks(wire: &mut BufReader<Wire>, body: &mut Vec<u8>) -> io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        wire.by_ref().take(REQUEST_BYTES_MAX).read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim_end(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        read_exactly(wire, length, body)?;
        // The end of the chunk's line; there are no trailers.
        read_exactly(wire, 2, &mut Vec::new())?;
        if length == 0 {
            return Ok(());
        }
    }
}
