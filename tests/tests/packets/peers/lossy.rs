//! A table of peers as a server whose clients are behind a bad network.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, PeerKey, PeerLimits, Peers, PeersEvent};
use getty_core::{Config, Event};
use testkit::lossy::{Link, Network};

const CLIENTS: usize = 50;
const MESSAGES: usize = 40;

fn server() -> SocketAddr {
    ([10, 0, 0, 1], 80).into()
}

fn client(number: usize) -> SocketAddr {
    ([10, 0, 1, number as u8], 5000).into()
}

/// The table, its keys, and the messages of each peer.
struct Server {
    peers: Peers<Raw>,
    keys: HashMap<PeerKey, SocketAddr>,
    messages: BTreeMap<SocketAddr, Vec<Bytes>>,
}

/// A server that echoes, which is end 0, and the clients. A session that takes everything stands in for the
/// server's socket.
fn network(link: Link) -> (Network<Raw>, Rc<RefCell<Server>>) {
    let config = Config::builder().idle_read(Duration::from_secs(5)).build().unwrap();
    let mut network = Network::new(link);
    let peers = Peers::new(
        Raw,
        PacketOptions::unconnected(),
        PeerLimits::new(),
        config.clone(),
        [7, 8],
        network.clock.now(),
    );
    let server_side =
        Rc::new(RefCell::new(Server { peers, keys: HashMap::new(), messages: BTreeMap::new() }));
    network.listen(Raw, Config::builder().build().unwrap(), server());
    let shared = Rc::clone(&server_side);
    network.end(0).on_event(move |socket, now, event| {
        let Event::Message(datagram) = event else { return };
        let Server { peers, keys, messages } = &mut *shared.borrow_mut();
        assert!(peers.handle_datagram(now, socket.path().unwrap(), datagram));
        while let Some(event) = peers.poll_event() {
            match event {
                PeersEvent::Unknown(path) => {
                    let key = peers.admit(true).unwrap();
                    assert!(keys.insert(key, path.peer).is_none());
                }
                PeersEvent::Peer(key, Event::Message(message)) => {
                    messages.entry(keys[&key]).or_default().push(message.clone());
                    peers.send(key, message).unwrap();
                }
                PeersEvent::Peer(_, Event::Open(_)) => {}
                event => panic!("{event:?}"),
            }
        }
        for transmit in peers.outgoing(now).transmits() {
            for datagram in transmit.datagrams() {
                socket.send_to(transmit.path.unwrap(), Bytes::copy_from_slice(datagram)).unwrap();
            }
        }
        peers.handle_sent(now, usize::MAX);
    });
    for number in 1..=CLIENTS {
        network.connect(Raw, Config::builder().build().unwrap(), client(number), server());
    }
    for message in 0..MESSAGES {
        for number in 1..=CLIENTS {
            let text = Bytes::from(format!("message {message} of {number}"));
            network.end(number).session.send(text).unwrap();
        }
        network.run_for(Duration::from_millis(1));
    }
    network.settle();
    (network, server_side)
}

#[test]
fn over_a_perfect_network_each_client_gets_its_own_back_in_order() {
    let (mut network, server) = network(Link::default());
    let server = server.borrow();
    assert_eq!((server.peers.len(), server.keys.len()), (CLIENTS, CLIENTS));
    for number in 1..=CLIENTS {
        let expected: Vec<_> = (0..MESSAGES).map(|n| format!("message {n} of {number}")).collect();
        assert_eq!(network.end(number).messages(), expected);
    }
}

#[test]
fn over_a_bad_network_each_peer_has_what_arrived_of_it() {
    let link = Link { loss: 0.2, duplication: 0.1, reordering: 0.3, ..Link::default() };
    let (mut network, server) = network(link);
    let server = server.borrow();
    assert_eq!(server.peers.len(), server.messages.len(), "one session for each client that got through");
    let mut arrived: BTreeMap<SocketAddr, Vec<Bytes>> = BTreeMap::new();
    for (peer, datagram) in network.end(0).messages_by_peer() {
        arrived.entry(peer).or_default().push(datagram);
    }
    assert_eq!(server.messages, arrived);
    let mut answers = 0;
    for (key, address) in &server.keys {
        let stats = server.peers.stats(*key);
        let count = arrived[address].len() as u64;
        assert_eq!((stats.received.messages, stats.received.operations), (count, count));
        assert_eq!((stats.sent.messages, stats.progress.flushed.unwrap().get()), (count, count));
        answers += count;
    }
    let mut back = 0;
    for number in 1..=CLIENTS {
        let messages = network.end(number).messages();
        let own = format!(" of {number}");
        assert!(messages.iter().all(|message| message.ends_with(own.as_bytes())), "another client's echo");
        back += messages.len() as u64;
    }
    let counts = network.counts();
    assert_eq!(counts.sent, (CLIENTS * MESSAGES) as u64 + answers);
    assert_eq!(counts.arrived, answers + back);
    assert!(counts.lost > 0 && counts.doubled > 0 && counts.delayed > 0);
    assert_eq!(server.peers.dropped().total(), 0);
}
