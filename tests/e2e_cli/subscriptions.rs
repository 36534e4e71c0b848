//! `subscribe`: messages as they come, and how it ends.

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Gateway, Running};

/// Every way in that streams.
const VIAS: [&str; 7] = ["unix", "unix-v1", "json", "ws", "ws-binary", "http", "grpc"];

fn fast() -> Gateway {
    Gateway::start_with(&["--set", "embedded.tick_ms=20"])
}

#[test]
fn it_ends_after_so_many_messages() {
    let gateway = fast();
    for via in VIAS {
        let ran = gateway.run(&["subscribe", "demo.tick", "--count", "3", "--via", via]);
        let ticks: Vec<_> = ran.objects().iter().map(|tick| tick["tick"].as_u64().unwrap()).collect();
        assert_eq!((ran.code, ticks.len()), (0, 3), "{via}");
        assert!(ticks.is_sorted_by(|one, next| one + 1 == *next), "{via}: {ticks:?}");
    }
}

#[test]
fn json_has_the_subject_beside_the_payload() {
    let gateway = fast();
    for via in VIAS {
        let ran = gateway.run(&["subscribe", "demo.*", "--count", "1", "--json", "--via", via]);
        let [object] = &ran.objects()[..] else { panic!("{ran:?}") };
        assert_eq!(
            (&object["subject"], &object["payload"]["demo"]),
            (&Value::from("demo.tick"), &true.into())
        );
    }
}

#[test]
fn a_signal_is_how_it_ends_and_before_its_count_is_an_interruption() {
    let gateway = fast();
    for via in VIAS {
        let endless: &[&str] = &["subscribe", "demo.tick", "--via", via];
        for (arguments, code) in [(endless, 0), (&[endless, &["--count", "100000"]].concat(), 130)] {
            let mut listening = Running::start(gateway.command(arguments));
            assert!(listening.line().contains("tick"), "{via}");
            listening.signal(Signal::INT);
            let (status, rest) = listening.end();
            assert_eq!(status.code(), Some(code), "{via}");
            assert!(rest.lines().all(|line| line.starts_with("{\"demo\":true")), "{rest}");
        }
    }
    // The subscriptions are gone with them.
    let doors = || gateway.run(&["status", "--json", "--interval", "1ms"]).objects()[0]["doors"].clone();
    while ["unix", "websocket", "http"].iter().any(|name| doors()[name]["streams"] != 0.0) {}
}

#[test]
fn a_gateway_that_stops_is_told() {
    let gateway = fast();
    let vias = ["unix", "json", "ws", "ws-binary", "http"];
    let listening = vias.map(|via| {
        let mut listening = Running::start(gateway.command(&["subscribe", "demo.tick", "--via", via]));
        assert!(listening.line().contains("tick"), "{via}");
        listening
    });
    gateway.signal(Signal::TERM);
    for (via, mut listening) in vias.into_iter().zip(listening) {
        let (status, rest) = listening.end();
        assert_eq!(status.code(), Some(5), "{via}: {rest}");
        assert!(rest.contains("draining"), "{via}: {rest}");
    }
}

#[test]
fn what_may_not_be_read_is_refused() {
    let gateway = fast();
    gateway.run(&["subscribe", "$SYS.>"]).assert_complains(4, &["denied", "$SYS.>"]);
    gateway.run(&["subscribe", "a..b"]).assert_complains(4, &["invalid"]);
}
