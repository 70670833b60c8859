//! The number of connections that a transfer finds by itself, beside fixed ones, from a real nginx: one that is fast,
//! one whose connections are slow each, and one behind a path that is slow for all of them together.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use staccato_tests::{bytes::MIB, service::Service};

use super::nginx::Nginx;

/// What the number that is found must reach of the best fixed one.
const NEAR: f64 = 0.95;
/// Most connections: chunks of 1 MiB that an attempt's share of the memory holds.
const CONNECTIONS_MAX: usize = 16;

/// A service in which so many attempts run at once, each with memory for [`CONNECTIONS_MAX`] connections.
fn service(slots: usize) -> Service {
    let memory = format!("{}M", slots * CONNECTIONS_MAX);
    let slots = slots.to_string();
    Service::start(&["--slots", &slots, "--lanes", "2", "--memory", &memory, "--chunk-size", "1M"])
}

/// Moves the first `bytes` of an object to nowhere; seconds until it is complete.
fn fetch(service: &Service, url: &str, connections: Option<usize>, bytes: usize) -> f64 {
    let begun = Instant::now();
    let options = json!({"connections": connections, "end_offset": bytes});
    let document = service.complete(&service.submit(url, "null:///nowhere", options));
    assert_eq!((&document["progress"], &document["attempts"]), (&json!(bytes), &json!(1)), "{document}");
    assert_eq!(document["connections"], connections.map_or(Value::Null, Value::from));
    begun.elapsed().as_secs_f64()
}

/// Bytes per second of each number of connections, `None` the one that is found; each fetches from a URL of its own,
/// all of them at once, as many bytes as take about the same time.
fn rates(cases: &[(Option<usize>, String, usize)]) -> Vec<f64> {
    let service = service(cases.len());
    thread::scope(|scope| {
        let one = |(connections, url, bytes): &(Option<usize>, String, usize)| {
            let (connections, bytes, url, service) = (*connections, *bytes, url.clone(), &service);
            scope.spawn(move || bytes as f64 / fetch(service, &url, connections, bytes))
        };
        let threads: Vec<_> = cases.iter().map(one).collect();
        threads.into_iter().map(|thread| thread.join().expect("a fetch completes")).collect()
    })
}

/// The first rate must be near the best of the others.
fn assert_near_the_best(cases: &[(Option<usize>, String, usize)], rates: &[f64]) {
    let seen: Vec<_> = cases.iter().zip(rates).map(|(case, rate)| (case.0, (rate / 1e5).round() / 10.0)).collect();
    let best = rates[1..].iter().copied().fold(0.0, f64::max);
    println!("MB/s by number of connections: {seen:?}");
    assert!(rates[0] >= NEAR * best, "{:.3} of the best: {seen:?}", rates[0] / best);
}

#[test]
fn where_each_connection_is_slow_as_many_are_found_as_there_may_be() {
    let nginx = Nginx::start();
    nginx.put_zeros("s", 1 << 30);
    // About 1 MiB per second and connection, for half a minute.
    let case = |connections: Option<usize>| {
        let bytes = connections.unwrap_or(CONNECTIONS_MAX) * 30 * MIB;
        (connections, nginx.url("slow/s"), bytes)
    };
    let cases = [None, Some(4), Some(8), Some(CONNECTIONS_MAX)].map(case);
    assert_near_the_best(&cases, &rates(&cases));
}

#[test]
fn where_all_together_are_slow_whatever_is_found_does_not_matter() {
    let nginx = Nginx::start();
    nginx.put_zeros("s", 1 << 30);
    let path = |connections| {
        let url = nginx.url("s");
        let relay = Relay::start(url.split('/').nth(2).expect("a URL has an authority"), 24 * MIB);
        (connections, format!("http://{relay}/s"), 15 * 24 * MIB)
    };
    let cases = [None, Some(1), Some(2), Some(4), Some(CONNECTIONS_MAX)].map(path);
    assert_near_the_best(&cases, &rates(&cases));
}

#[test]
fn where_nothing_is_slow_the_number_that_is_found_is_as_fast_as_any() {
    // Long enough for what is looked for to be found early on: half a second where nothing is slow.
    const LEN: usize = 1024 * MIB;
    const ROUNDS: usize = 15;
    // Of two that are as fast as one another (at `NEAR`), either is behind in so many rounds by chance in 2 % of runs.
    const BEHIND_MAX: usize = 11;
    const NUMBERS: [Option<usize>; 5] = [None, Some(1), Some(2), Some(8), Some(CONNECTIONS_MAX)];
    let (service, nginx) = (service(1), Nginx::start());
    nginx.put_zeros("s", LEN as u64);
    // Other tests run meanwhile, so neighbours are compared: in how many rounds the number that is found was behind.
    let rounds: Vec<[f64; NUMBERS.len()]> = (0..ROUNDS)
        .map(|_| NUMBERS.map(|connections| LEN as f64 / fetch(&service, &nginx.url("s"), connections, LEN)))
        .collect();
    let (mut medians, mut behind) = (Vec::new(), Vec::new());
    for other in 1..NUMBERS.len() {
        let mut ratios: Vec<f64> = rounds.iter().map(|rates| rates[0] / rates[other]).collect();
        ratios.sort_by(f64::total_cmp);
        medians.push((ratios[ratios.len() / 2] * 1000.0).round() / 1000.0);
        behind.push(ratios.iter().filter(|ratio| **ratio < NEAR).count());
    }
    println!("the number that is found to {:?}: {medians:?}, behind {behind:?} times of {ROUNDS}", &NUMBERS[1..]);
    let shown: Vec<_> = rounds.iter().map(|rates| rates.map(|rate| (rate / 1e6).round())).collect();
    let near = behind.iter().all(|behind| *behind <= BEHIND_MAX);
    assert!(near, "{medians:?}, behind {behind:?}; MB/s of {NUMBERS:?}, round by round: {shown:?}");
}

/// A path that gives all connections together so many bytes per second, and each its share.
struct Relay;

impl Relay {
    /// Begins to relay to `to`; the address that it listens on. Its threads end with the process.
    fn start(to: &str, bytes_per_second: usize) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let bucket = Arc::new(Mutex::new(Instant::now()));
        let to = to.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&to) else { continue };
                let (up, down) = ((client.try_clone(), server.try_clone()), (server, client));
                let (Ok(from), Ok(into)) = up else { continue };
                thread::spawn(move || pump(from, into, |_| ()));
                let bucket = bucket.clone();
                thread::spawn(move || {
                    pump(down.0, down.1, |bytes| {
                        let takes = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
                        // Whoever asks stands in line: a time of its own for each piece.
                        let turn = {
                            let mut free = bucket.lock().expect("nobody panics with it");
                            *free = (*free).max(Instant::now()) + takes;
                            *free
                        };
                        thread::sleep(turn.saturating_duration_since(Instant::now()));
                    })
                });
            }
        });
        address
    }
}

fn pump(mut from: TcpStream, mut into: TcpStream, wait: impl Fn(usize)) {
    let mut buffer = [0; 16 << 10];
    let mut step = || -> io::Result<usize> {
        let count = from.read(&mut buffer)?;
        wait(count);
        into.write_all(&buffer[..count])?;
        Ok(count)
    };
    while step().is_ok_and(|count| count > 0) {}
    let _ = into.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
