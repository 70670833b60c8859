//! Hosts of their own, with a relay between them that delays and loses.

use std::time::Duration;

use staccato_bench::{
    network::{Network, Wiring},
    record::Kind,
    relay::Conditions,
};

use crate::bench::measure;

#[test]
fn an_object_crosses_a_path_that_delays_and_loses() {
    let arguments = "link --delay 20ms --loss 0,1% --rate 200mbit --congestion bbr --mtu 9000 --mib 4 --streams 2 --transport \
                     tcp,tcp-tls,quic,quic-bbr";
    let (table, series) =
        measure(&format!("{arguments} --case memory-to-memory --pairs 3 --minutes 0.1 --contestant rustls"));
    assert_eq!(series.len(), 8, "four transports, each with and without losses: {series:?}");
    for series in &series {
        assert!(series.kind == Kind::Ours && series.absent.is_none(), "{series:?}");
        // 4 MiB at 200 Mbit/s take 168 ms, and asking for them a round trip at least.
        assert!(series.samples.iter().all(|sample| sample.seconds > 0.188), "{series:?}");
        assert_eq!((series.settings["round trip"].as_str(), series.settings["rate"].as_str()), ("20ms", "200 Mbit/s"));
    }
    assert!(table.contains("loss 0 %") && table.contains("loss 1 %"), "{table}");
}

#[test]
fn transfers_of_a_service_cross_a_path_that_delays() {
    let arguments = "link --delay 20ms --rate 200mbit --transport service --case memory-to-memory --case small --mib 4";
    let (table, series) = measure(&format!("{arguments} --objects 40 --pairs 3 --minutes 0.1"));
    assert_eq!(series.len(), 8, "auto twice, quic, tcp; then small, by auto, quic, tcp and rsync: {series:?}");
    for series in &series {
        let must = series.contestant != "rsync daemon";
        assert!(series.absent.is_none() || !must, "{series:?}");
        // 4 MiB at 200 Mbit/s take 168 ms; 40 objects of 64 KiB 105 ms.
        assert!(series.samples.iter().all(|sample| sample.seconds > 0.105), "{series:?}");
        assert_eq!(series.settings["round trip"], "20ms");
    }
    assert!(table.contains("service auto took") && table.contains("CPU µs/op"), "{table}");
}

#[test]
fn networks_are_there_for_tests_that_need_several_hosts() {
    let network = Network::build(&Wiring { hosts: 3, ..Wiring::default() }).unwrap();
    let [one, _, three] = network.hosts() else { panic!("three hosts") };
    let listener = three.run(|| std::net::TcpListener::bind((three.address(), 5309))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5));
    one.run(connect).unwrap().unwrap();
    let outside = std::net::TcpListener::bind((three.address(), 0));
    assert!(outside.is_err(), "the machine itself has none of its addresses");
    let relay = Wiring { relay: Some(Conditions::default()), hosts: 3, ..Wiring::default() };
    assert!(Network::build(&relay).unwrap_err().to_string().contains("two hosts"));
}
