//! A small HTTP server for one file: ranges, a strong ETag, and a count of what was sent.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A file being served.
pub(super) struct FileServer {
    /// Where it is.
    pub url: String,
    bytes_sent: Arc<AtomicU64>,
}

impl FileServer {
    /// Bytes of the file that were sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }
}

/// Serves `path` to all that connect, until the process ends.
pub(super) fn serve(path: PathBuf, listener: std::net::TcpListener) -> io::Result<FileServer> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let url = format!("http://{}/image.raw", listener.local_addr()?);
    let bytes_sent = Arc::new(AtomicU64::new(0));
    let file = Arc::new(File::open(path)?);
    let counter = bytes_sent.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (file, counter) = (file.clone(), counter.clone());
            let service = service_fn(move |request| {
                let answer = answer(&request, &file, &counter);
                async move { answer }
            });
            // A client that goes away in the middle (it gets killed in this demonstration) is no event.
            tokio::spawn(async move {
                drop(http1::Builder::new().serve_connection(TokioIo::new(connection), service).await)
            });
        }
    });
    Ok(FileServer { url, bytes_sent })
}

type Body = BoxBody<Bytes, io::Error>;

fn answer(request: &Request<Incoming>, file: &Arc<File>, counter: &Arc<AtomicU64>) -> io::Result<Response<Body>> {
    let size = file.metadata()?.len();
    let response = Response::builder().header(header::ETAG, "\"demo\"").header(header::ACCEPT_RANGES, "bytes");
    let asked = request.headers().get(header::RANGE).and_then(|value| range(value.to_str().ok()?, size));
    let response = match asked {
        Some((start, end)) => response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1)),
        None => response,
    };
    let (start, end) = asked.unwrap_or((0, size));
    let response = response.header(header::CONTENT_LENGTH, end - start);
    let body = if request.method() == Method::HEAD {
        Empty::new().map_err(|never| match never {}).boxed()
    } else {
        content(file.clone(), start, end, counter.clone())
    };
    response.body(body).map_err(io::Error::other)
}

/// `bytes=START-END` (the end included) as a half-open range.
fn range(value: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = value.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let end = if end.is_empty() { size } else { end.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (start < end).then_some((start, end))
}

fn content(file: Arc<File>, start: u64, end: u64, counter: Arc<AtomicU64>) -> Body {
    const PIECE: u64 = 256 << 10;
    let pieces = stream::iter((start..end).step_by(PIECE as usize)).then(move |at| {
        let (file, counter) = (file.clone(), counter.clone());
        let len = PIECE.min(end - at) as usize;
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            });
            let bytes = read.await.map_err(io::Error::other)??;
            counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(Bytes::from(bytes))
        }
    });
    BodyExt::boxed(StreamBody::new(pieces.map_ok(Frame::data)))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_clamped_and_nonsense_is_ignored() {
        assert_eq!(range("bytes=0-0", 10), Some((0, 1)));
        assert_eq!(range("bytes=5-", 10), Some((5, 10)));
        assert_eq!(range("bytes=5-99", 10), Some((5, 10)));
        for nonsense in ["bytes=9-5", "bytes=10-", "lines=1-2", "bytes=-", "bytes=a-b"] {
            assert_eq!(range(nonsense, 10), None, "{nonsense}");
        }
    }
}
