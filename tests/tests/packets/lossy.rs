//! Datagram sessions over good and bad networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::{Config, Event};
use testkit::lossy::{Link, Network};

fn at(host: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, host], port).into()
}

fn server() -> SocketAddr {
    at(1, 80)
}

/// A server that echoes, which is end 0, and `clients` clients.
fn with_server(link: Link, clients: usize) -> Network<LengthDelimited> {
    let config = Config::builder().build().unwrap();
    let mut network = Network::new(link);
    network.listen(LengthDelimited::new(), config.clone(), server());
    network.end(0).on_event(|session, _, event| {
        if let Event::Message(message) = event {
            session.reply(message.clone()).unwrap();
        }
    });
    for n in 1..=clients {
        let here = at(2 + (n % 50) as u8, n as u16);
        assert_eq!(network.connect(LengthDelimited::new(), config.clone(), here, server()), n);
    }
    network
}

fn text(client: usize, number: usize) -> Bytes {
    Bytes::from(format!("message {number} of {client}"))
}

/// Lets each client send one message per millisecond.
fn send(network: &mut Network<LengthDelimited>, clients: usize, messages: usize) {
    for number in 0..messages {
        for client in 1..=clients {
            network.end(client).session.send(text(client, number)).unwrap();
        }
        network.run_for(Duration::from_millis(1));
    }
    network.settle();
}

#[test]
fn over_a_perfect_network_everything_arrives_once_and_in_order() {
    let (clients, messages) = (100, 50);
    let mut network = with_server(Link::default(), clients);
    send(&mut network, clients, messages);
    for client in 1..=clients {
        let expected: Vec<_> = (0..messages).map(|number| text(client, number)).collect();
        assert_eq!(network.end(client).messages(), expected);
    }
    let counts = network.counts();
    let all = (2 * clients * messages) as u64;
    assert_eq!((counts.sent, counts.arrived, counts.lost, counts.doubled), (all, all, 0, 0));
}

#[test]
fn over_a_bad_network_what_arrives_was_sent_and_the_numbers_add_up() {
    let link = Link { loss: 0.1, duplication: 0.1, reordering: 0.2, ..Link::default() };
    let (clients, messages) = (50, 100);
    let mut network = with_server(link, clients);
    send(&mut network, clients, messages);
    assert_eq!(network.in_flight(), 0);
    let counts = network.counts();
    assert!(counts.lost > 0 && counts.doubled > 0 && counts.delayed > 0, "{counts:?}");
    assert_eq!(counts.sent + counts.doubled, counts.lost + counts.arrived);

    let (mut delivered, mut accepted, mut overtaken) = (0, 0, false);
    for end in 0..=clients {
        let stats = network.end(end).session.stats();
        assert_eq!(stats.received.messages, stats.received.operations, "nothing was damaged");
        assert_eq!(network.end(end).session.dropped().total(), 0);
        assert_eq!((stats.sent.messages, stats.queued), (stats.sent.operations, 0));
        delivered += stats.received.messages;
        accepted += stats.sent.messages;
        let mut times: BTreeMap<_, u64> = BTreeMap::new();
        for (peer, message) in network.end(end).messages_by_peer() {
            let sender = if end == 0 { usize::from(peer.port()) } else { end };
            let number = (0..messages).find(|&number| message == text(sender, number));
            *times.entry((sender, number.expect("no client sent this message"))).or_default() += 1;
        }
        overtaken |=
            network.end(end).messages().windows(2).any(|pair| end > 0 && pair[0].len() > pair[1].len());
        // Either direction can double a message, and only once.
        assert!(times.values().all(|&times| times <= if end == 0 { 2 } else { 4 }));
    }
    assert_eq!((counts.sent, counts.arrived), (accepted, delivered));
    assert!(overtaken, "a message with a longer number overtook one with a shorter number");
}

#[test]
fn the_same_seed_is_the_same_network() {
    let run = |seed| {
        let link = Link { loss: 0.5, duplication: 0.5, reordering: 0.5, ..Link::default() };
        let mut network = Network::with_seed(link, seed);
        let config = Config::builder().build().unwrap();
        let a = network.connect(Raw, config.clone(), at(1, 1), at(2, 2));
        let b = network.connect(Raw, config, at(2, 2), at(1, 1));
        for n in 0..100u8 {
            network.end(a).session.send(Bytes::from(vec![n])).unwrap();
        }
        network.settle();
        (network.counts(), network.end(b).messages())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_reader_that_pauses_loses_what_its_system_can_not_keep() {
    let mut network = with_server(Link { buffer: 10, ..Link::default() }, 1);
    network.end(0).session.pause();
    send(&mut network, 1, 100);
    assert_eq!((network.counts().arrived, network.counts().overflowed), (10, 90));
    let now = network.clock.now();
    network.end(0).session.resume(now);
    network.settle();
    let expected: Vec<_> = (0..10).map(|number| text(1, number)).collect();
    assert_eq!(network.end(1).messages(), expected);
}

#[test]
fn a_connected_end_hears_its_peer_alone_and_learns_that_nobody_is_there() {
    let mut network = with_server(Link::default(), 1);
    let config = Config::builder().build().unwrap();
    let stranger = network.listen(LengthDelimited::new(), config.clone(), at(9, 9));
    network.end(stranger).session.send_to(at(3, 1), Bytes::from("hello")).unwrap();
    let lost = network.connect(LengthDelimited::new(), config, at(9, 10), at(1, 81));
    network.end(lost).session.send(Bytes::from("hello")).unwrap();
    network.settle();
    assert_eq!((network.counts().refused, network.counts().arrived), (2, 0));
    assert_eq!(network.end(1).messages(), [""; 0]);
    assert_eq!(network.end(lost).session.dropped().unsent, 1);
    let told: BTreeSet<_> =
        network.end(lost).events.iter().map(|(_, _, event)| format!("{event:?}")).collect();
    assert!(told.iter().any(|event| event.contains("ConnectionRefused")), "{told:?}");
    assert!(network.end(lost).session.is_open());
}
