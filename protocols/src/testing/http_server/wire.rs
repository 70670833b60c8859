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

/// The next request of a connection; none at its end.
pub(super) fn read_request(wire: &mut BufReader<Wire>, connection: usize) -> io::Result<Option<Seen>> {
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
            None => return Ok(Some(Seen { method, target, headers, connection, at: Instant::now() })),
        };
    }
}

/// The body of a request, which must say its length.
pub(super) fn read_body(wire: &mut BufReader<Wire>, request: &Seen) -> io::Result<Vec<u8>> {
    let length = request.headers.get("content-length").map_or(Ok(0), |length| length.parse());
    let mut body = vec![0; length.map_err(io::Error::other)?];
    wire.read_exact(&mut body)?;
    Ok(body)
}
