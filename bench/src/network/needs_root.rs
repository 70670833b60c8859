//! Networks as they are: root's rights.

use std::{net::UdpSocket, os::fd::AsRawFd as _, time::Duration};

use super::*;

/// Sends so many datagrams of so many bytes to a host that sends them back; the round trips of those that come.
fn echoed(from: &Host, to: &Host, count: usize, bytes: usize) -> Vec<Duration> {
    let there = to.run(|| UdpSocket::bind((to.address(), 0))).unwrap().unwrap();
    let here = from.run(|| UdpSocket::bind((from.address(), 0))).unwrap().unwrap();
    here.connect(there.local_addr().unwrap()).unwrap();
    there.connect(here.local_addr().unwrap()).unwrap();
    for socket in [&here, &there] {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        never_fragment(socket);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(len) = there.recv(&mut buffer) {
                there.send(&buffer[..len]).unwrap();
            }
        });
        let sent: Vec<Instant> = (0..count as u64)
            .map(|number| {
                let mut datagram = vec![0; bytes];
                datagram[..8].copy_from_slice(&number.to_le_bytes());
                let now = Instant::now();
                here.send(&datagram).unwrap();
                thread::sleep(Duration::from_millis(1));
                now
            })
            .collect();
        let mut buffer = vec![0; 1 << 16];
        let mut round_trips = Vec::new();
        while let Ok(len) = here.recv(&mut buffer) {
            assert_eq!(len, bytes);
            let number = u64::from_le_bytes(buffer[..8].try_into().unwrap());
            round_trips.push(sent[number as usize].elapsed());
        }
        round_trips
    })
}

fn never_fragment(socket: &UdpSocket) {
    let value = libc::IP_PMTUDISC_DO;
    // SAFETY: the value is of the type that IP_MTU_DISCOVER takes (ip(7)), and lives until the call returns.
    let set = unsafe {
        let (at, len) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, at, len)
    };
    assert_eq!(set, 0);
}

fn names() -> Vec<String> {
    let listed = ip(&["netns", "list"]).unwrap();
    listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_relay_delays_and_loses_as_it_was_told_and_nothing_is_left_behind() {
    let far = Conditions { delay: Duration::from_millis(20), loss: 0.1, ..Conditions::default() };
    let network = Network::build(&Wiring { relay: Some(far), seed: 5, ..Wiring::default() }).unwrap();
    let [here, there] = network.hosts() else { panic!("two hosts") };
    let round_trips = echoed(here, there, 200, 100);
    // Both ways lose: 0.9 x 0.9 arrive; five standard deviations to each side.
    assert!((134..190).contains(&round_trips.len()), "{} of 200", round_trips.len());
    // They are looked at when all have been sent: only the last one has a meaning of its own.
    let shortest = round_trips.iter().min().unwrap();
    assert!((Duration::from_millis(40)..Duration::from_millis(60)).contains(shortest), "{round_trips:?}");
    let counts = network.relay().unwrap().counts();
    assert!(counts[0].came >= 200 && counts[0].lost > 0 && counts[1].came < counts[0].came, "{counts:?}");
    let own: Vec<String> = network.hosts().iter().map(|host| host.namespace().to_owned()).collect();
    assert!(own.iter().all(|name| names().contains(name)));
    let mut lasting = there.command("sleep").arg("1000").spawn().unwrap();
    // Until it has become what it is to run.
    std::thread::sleep(Duration::from_millis(200));
    drop(network);
    assert!(own.iter().all(|name| !names().contains(name)));
    assert!(!lasting.wait().unwrap().success(), "it was ended with its host");
}

#[test]
fn hosts_at_a_bridge_reach_one_another_with_large_packets() {
    let network = Network::build(&Wiring { hosts: 3, mtu: 9000, ..Wiring::default() }).unwrap();
    let hosts = network.hosts();
    // 20 bytes of IP and 8 of UDP.
    for (from, to, bytes) in [(0, 2, 100), (1, 2, 8972), (2, 0, 8972)] {
        assert_eq!(echoed(&hosts[from], &hosts[to], 3, bytes).len(), 3, "{from} to {to}");
    }
}

#[test]
fn what_a_host_has_sent_is_counted_and_a_host_may_have_a_rate_of_its_own() {
    // What fills the bucket goes at once: 256 KiB.
    let wiring = Wiring { hosts: 3, rates: [(1, 8_000_000)].into(), ..Wiring::default() };
    let network = Network::build(&wiring).unwrap();
    let hosts = network.hosts();
    let took = |from: usize| {
        let before = hosts[from].bytes_sent().unwrap();
        let listener = hosts[2].run(|| std::net::TcpListener::bind((hosts[2].address(), 0))).unwrap().unwrap();
        let at = listener.local_addr().unwrap();
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = hosts[from].run(|| std::net::TcpStream::connect(at)).unwrap().unwrap();
                std::io::Write::write_all(&mut stream, &vec![1; 1 << 20]).unwrap();
            });
            std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()).unwrap();
        });
        let sent = hosts[from].bytes_sent().unwrap() - before;
        assert!((1 << 20..3 << 19).contains(&sent), "{sent}");
        began.elapsed()
    };
    let (fast, slow) = (took(0), took(1));
    assert!(slow > Duration::from_millis(600) && fast < slow / 2, "{fast:?} and {slow:?}");
}

#[test]
fn hosts_have_the_congestion_control_that_was_asked_for() {
    let file = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let available = std::fs::read_to_string(file).unwrap();
    for name in available.split_whitespace() {
        let wiring = Wiring { congestion: Some(name.into()), ..Wiring::default() };
        let network = Network::build(&wiring).unwrap();
        let host = &network.hosts()[1];
        let told = host.command("cat").arg("/proc/sys/net/ipv4/tcp_congestion_control").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), name);
    }
    let unknown = Wiring { congestion: Some("nobody".into()), ..Wiring::default() };
    assert!(Network::build(&unknown).unwrap_err().to_string().contains("no congestion control nobody"));
}

#[test]
fn what_a_killed_process_has_left_is_swept_away() {
    // A process that has just ended: nobody has its number and its start.
    let mut gone = Command::new("true").spawn().unwrap();
    let (pid, start) = (gone.id(), names::start_of(gone.id()).unwrap());
    gone.wait().unwrap();
    let left = format!("{}{pid}-{start}-0-1", names::PREFIX);
    ip(&["netns", "add", &left]).unwrap();
    let lasting = Command::new("ip").args(["netns", "exec", &left, "sleep", "1000"]).spawn();
    std::thread::sleep(Duration::from_millis(200));
    sweep().unwrap();
    assert!(!names().contains(&left));
    assert!(!lasting.unwrap().wait().unwrap().success());
}
