//! Sockets that the service listens on: bound by itself, or handed over by whoever started it.
//!
//! systemd can bind a service's sockets and hand them over (sd_listen_fds(3)): connections wait while the service
//! restarts, and it needs no right to bind. Then those are what it listens on, instead of `listen` and `socket`: Unix
//! sockets and loopback plainly, other addresses with TLS.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use listenfd::ListenFd;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::{
    api::server::Listener,
    config::{Config, Listen},
};

/// How long an address may be taken at start: a predecessor that was killed may not be gone entirely.
const BIND_PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two tries to bind.
const BIND_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// A place that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {why}")]
pub struct BindError {
    place: String,
    why: String,
}

/// Listeners, and the URLs of those on TCP.
#[derive(Default)]
pub struct Bound {
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// What clients call those on TCP.
    pub urls: Vec<String>,
    /// The Unix socket on which clients are served.
    pub socket: Option<PathBuf>,
    /// The Unix socket that was made here, to be removed at the end.
    pub made: Option<PathBuf>,
}

/// Sockets that were handed over. They outlive a service that begins anew in this process.
#[derive(Default)]
pub struct Inherited {
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<std::os::unix::net::UnixListener>,
}

impl BindError {
    fn new(place: impl ToString, why: impl ToString) -> Self {
        Self { place: place.to_string(), why: why.to_string() }
    }
}

impl Inherited {
    /// Takes what this process was handed; nothing when it was handed nothing. Changes the environment: no other thread may
    /// run.
    pub fn take() -> Result<Self, BindError> {
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for place in 0..handed.len() {
            let refused = |error: io::Error| BindError::new(format!("the socket {place} that was handed over"), error);
            if let Ok(Some(listener)) = handed.take_unix_listener(place) {
                inherited.unix.push(listener);
            } else if let Some(listener) = handed.take_tcp_listener(place).map_err(refused)? {
                inherited.tcp.push(listener);
            }
        }
        Ok(inherited)
    }

    fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }

    fn listen(&self, tls: Option<&Arc<ServerConfig>>) -> Result<Bound, BindError> {
        let mut bound = Bound::default();
        let failed = |error: io::Error| BindError::new("a socket that was handed over", error);
        for listener in &self.tcp {
            let listener = listener.try_clone().map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            let is_loopback = address.ip().to_canonical().is_loopback();
            bound.add(if is_loopback { Listen::Plain(address) } else { Listen::Tls(address) }, listener, tls)?;
        }
        for listener in &self.unix {
            let listener = listener.try_clone().map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            bound.socket = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
            bound.listeners.push(Listener::Unix(UnixListener::from_std(listener).map_err(failed)?));
        }
        Ok(bound)
    }
}

/// Listens where the configuration says, or on what was handed over; with `tls` where others can come in.
pub async fn listen(
    config: &Config,
    inherited: &Inherited,
    tls: Option<&Arc<ServerConfig>>,
) -> Result<Bound, BindError> {
    if !inherited.is_empty() {
        return inherited.listen(tls);
    }
    let mut bound = Bound::default();
    for place in &config.listen {
        bound.add(*place, bind_tcp(*place).await?, tls)?;
    }
    if let Some(path) = &config.socket {
        bound.listeners.push(Listener::Unix(bind_unix(path, 0o660).await?));
        (bound.socket, bound.made) = (Some(path.clone()), Some(path.clone()));
    }
    Ok(bound)
}

impl Bound {
    fn add(&mut self, place: Listen, listener: TcpListener, tls: Option<&Arc<ServerConfig>>) -> Result<(), BindError> {
        let address = listener.local_addr().map_err(|error| BindError::new(place, error))?;
        let listener = match (place, tls) {
            (Listen::Plain(_), _) => Listener::Tcp(listener),
            (Listen::Tls(_), Some(tls)) => Listener::Tls(listener, tls.clone().into()),
            (Listen::Tls(_), None) => {
                return Err(BindError::new(place.url(address), "others can reach it; give tls_cert and tls_key"));
            }
        };
        self.urls.push(place.url(address));
        self.listeners.push(listener);
        Ok(())
    }
}

/// Binds an address of TCP.
pub async fn bind_tcp(place: Listen) -> Result<TcpListener, BindError> {
    let address: SocketAddr = place.address();
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of a predecessor may linger in TIME_WAIT; a listener that lives still refuses us.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    patiently(&place.url(address), bind).await
}

/// Binds a Unix socket with this mode. A file that a dead service left is replaced; one that is answered is not.
pub async fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, BindError> {
    patiently(&path.display().to_string(), || {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::other("there is something that is no socket; remove it or choose another path"));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                Err(error) => return Err(error),
            },
        }
        // The mode must hold from the first moment. Whatever else is made meanwhile has no more rights than this.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(!mode & 0o777));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        bound
    })
    .await
}

/// Tries until the address is free, for [`BIND_PATIENCE`].
async fn patiently<T>(place: &str, bind: impl Fn() -> io::Result<T>) -> Result<T, BindError> {
    let begun = Instant::now();
    loop {
        match bind() {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < BIND_PATIENCE => {
                tokio::time::sleep(BIND_PAUSE).await;
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::new(place, "another service listens there"));
            }
            Err(error) => return Err(BindError::new(place, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_of_a_dead_service_is_replaced_and_one_of_a_live_service_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(bind_unix(&path, 0o600).await.unwrap());
        assert!(path.exists(), "the file outlives its socket");
        let bound = bind_unix(&path, 0o660).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let error = bind_unix(&path, 0o660).await.unwrap_err();
        assert!(error.to_string().contains("another service listens there"), "{error}");
        drop(bound);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        let error = bind_unix(&path, 0o660).await.unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn sockets_that_were_handed_over_are_plain_on_loopback_and_need_tls_elsewhere() {
        let loopback = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", loopback.local_addr().unwrap());
        let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let inherited = Inherited { tcp: vec![loopback], unix: Vec::new() };
        for _ in 0..2 {
            let bound = inherited.listen(None).unwrap();
            assert_eq!(bound.urls, std::slice::from_ref(&url), "again, for a service that began anew");
        }
        let error = Inherited { tcp: vec![everywhere], unix: Vec::new() }.listen(None).err().unwrap();
        assert!(error.to_string().contains("tls_cert"), "{error}");
    }
}
