//! Which user is at the other end of a connection.
//!
//! On a Unix socket the kernel says it (`SO_PEERCRED`, unix(7)). On loopback TCP the peer's own socket is looked up in
//! `/proc/net/tcp` and `tcp6` by its two addresses; the row names the user who made it. The look-up happens when the
//! connection is accepted. A socket that its process has closed already counts as nobody's: the kernel shows such rows
//! with user 0 and inode 0, which must not be taken for root.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    sync::OnceLock,
};

use super::access::Peer;

/// The peer of a connection on a Unix socket.
pub fn of_unix(socket: impl AsFd) -> Peer {
    match rustix::net::sockopt::socket_peercred(socket) {
        Ok(credentials) => Peer::User(user_name(credentials.uid.as_raw())),
        Err(error) => Peer::Unknown(format!("SO_PEERCRED failed ({error})")),
    }
}

/// The user whom this process runs as.
pub fn own_user() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| user_name(rustix::process::geteuid().as_raw()))
}

/// The peer of a connection on loopback TCP. Reads files of the kernel: some tens of microseconds, more with thousands
/// of connections.
pub fn of_tcp(peer: SocketAddr, local: SocketAddr) -> Peer {
    match tcp_user(peer, local) {
        Ok(Some(uid)) => Peer::User(user_name(uid)),
        Ok(None) => Peer::Unknown("its end of the connection is closed or belongs to no process here".into()),
        Err(error) => Peer::Unknown(format!("/proc/net/tcp cannot be read ({error})")),
    }
}

fn tcp_user(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    // A program may reach an IPv4 address through an IPv6 socket; its row is in the other file then.
    let wanted = (canonical(peer), canonical(local));
    let files = if wanted.0.is_ipv4() { ["tcp", "tcp6"] } else { ["tcp6", "tcp"] };
    for file in files {
        match fs::read_to_string(format!("/proc/net/{file}")) {
            Ok(text) => {
                if let Some(uid) = text.lines().skip(1).filter_map(parse_row).find(|row| row.ends == wanted) {
                    return Ok(Some(uid.uid));
                }
            }
            // Without IPv6 there is no tcp6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// Its own address and the one it is connected to, both canonical.
    ends: (SocketAddr, SocketAddr),
    uid: u32,
}

/// A row of a socket that a process holds: `sl local remote st queues timer retransmits uid timeout inode ...`, as
/// proc_net_tcp.rst of the kernel's documentation has it.
fn parse_row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let remote = parse_address(fields.next()?)?;
    let uid = fields.nth(4)?.parse().ok()?;
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some(Row { ends: (local, remote), uid })
}

/// `ADDRESS:PORT` in hex; the address as words of 32 bits in the machine's own order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).expect("four bytes")),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("sixteen bytes")).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The name of a user; `uid:N` for those without one. No name holds a colon (passwd(5)).
fn user_name(uid: u32) -> String {
    let named = fs::read_to_string("/etc/passwd").ok().and_then(|text| find_name(&text, uid));
    named.unwrap_or_else(|| format!("uid:{uid}"))
}

fn find_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, net::TcpStream, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn the_peer_of_a_connection_is_the_user_of_its_socket() {
        let me = user_name(rustix::process::getuid().as_raw());
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                assert!(bind.starts_with('['), "loopback must be there");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!(of_tcp(peer, accepted.local_addr().unwrap()), Peer::user(&me));
            // Closed by its process: nobody's, and above all not root's.
            drop(client);
            assert!(matches!(of_tcp(peer, accepted.local_addr().unwrap()), Peer::Unknown(_)));
        }
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(of_unix(&one), Peer::user(&me));
    }

    #[test]
    fn rows_of_the_kernel_are_read() {
        let row =
            "   1: 0100007F:14BD 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 20";
        let ends = ("127.0.0.1:5309".parse().unwrap(), "127.0.0.1:50000".parse().unwrap());
        assert_eq!(parse_row(row), Some(Row { ends, uid: 1000 }));
        let mapped = row.replace("0100007F:", "0000000000000000FFFF00000100007F:");
        assert_eq!(parse_row(&mapped), Some(Row { ends, uid: 1000 }));
        assert_eq!(parse_row(&row.replace("4711", "0")), None);
        for broken in ["", "x", "1: 0100007F 0100007F:C350 01 a b c d e f", "1: zz:1 zz:1 01 a b c 0 0 1"] {
            assert_eq!(parse_row(broken), None, "{broken}");
        }
    }

    #[test]
    fn users_without_a_name_have_a_number() {
        let passwd = "root:x:0:0::/:/bin/sh\n\nbroken\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(find_name(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(find_name(passwd, 1001), None);
        assert_eq!(user_name(u32::MAX - 5), format!("uid:{}", u32::MAX - 5));
    }
}
