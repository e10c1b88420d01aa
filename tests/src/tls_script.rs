//! Any order of calls on two sessions over TLS, with any damage to the bytes between them, made from bytes.
//!
//! [`run`] is for fuzz targets and property tests: every input is a valid script.
//!
//! Checked throughout: whatever is done to the wire, an end gets only messages that the other sent, whole, in
//! order and once; an untouched wire delivers all of them; `Closed` comes exactly once and last; an end whose
//! wire was touched does not report a clean end before the other end has closed; polling ends.
//!
//! Certificates and keys come from the system's random bytes, so the bytes on the wire differ from run to
//! run.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::layer::tls::Tls;
use getty_core::{Close, CloseReason, Config, Event, Framed, Layered, Memory, Protocol, Session};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::clock::Clock;
use crate::script::parts::Script;

type Secure = Layered<Tls, Framed<LengthDelimited>>;

/// Runs the script in `data`.
///
/// # Panics
/// If a session violates a guarantee.
pub fn run(data: &[u8]) {
    let mut script = Script { data };
    let mut run = Run::new(script.byte());
    while let Some(op) = script.next() {
        run.step(op, &mut script);
    }
    run.finish();
}

struct Run {
    ends: [End; 2],
    clock: Clock,
}

struct End {
    session: Session<Secure>,
    lent: bool,
    /// Bytes in flight to this end.
    wire: VecDeque<u8>,
    /// Whether these were changed, cut or added to.
    touched: bool,
    /// Whether the peer has ended the transport.
    ended: bool,
    eof_told: bool,
    /// Messages that must still come, oldest first.
    expected: VecDeque<Vec<u8>>,
    made: u8,
    closed: Option<CloseReason>,
    /// Whether this end was closed or its transport failed.
    over: bool,
}

/// The configurations of both ends. Their keys are made once.
fn configs() -> &'static (Arc<ClientConfig>, [Arc<ServerConfig>; 2]) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, [Arc<ServerConfig>; 2])> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).unwrap();
        let provider = || Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = |fragment| {
            let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![signed.cert.der().clone()], key)
                .unwrap();
            config.max_fragment_size = fragment;
            Arc::new(config)
        };
        (Arc::new(client), [server(None), server(Some(64))])
    })
}

impl Run {
    fn new(setup: usize) -> Self {
        let clock = Clock::new();
        let (client, servers) = configs();
        let name = ServerName::try_from("localhost").unwrap();
        let layers = [Tls::client(client.clone(), name).unwrap(), Tls::server(&servers[setup & 1]).unwrap()];
        let config = Config::builder().idle_both(Duration::from_secs(60)).build().unwrap();
        let ends = layers.map(|layer| End {
            session: Session::new(
                Framed::new(LengthDelimited::new()).under(layer),
                config.clone(),
                clock.now(),
            ),
            lent: false,
            wire: VecDeque::new(),
            touched: false,
            ended: false,
            eof_told: false,
            expected: VecDeque::new(),
            made: 0,
            closed: None,
            over: false,
        });
        let mut run = Run { ends, clock };
        if setup & 2 > 0 {
            (0..10).for_each(|_| run.exchange()); // the handshake first, so that short scripts get further
        }
        run
    }

    /// Writes, transfers and reads everything both ways, once.
    fn exchange(&mut self) {
        for at in [0, 1] {
            self.write(at, usize::MAX);
            self.read(1 - at, usize::MAX);
            self.poll(1 - at);
            self.poll(at);
        }
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let at = usize::from(op & 1);
        let now = self.clock.now();
        match op >> 1 & 15 {
            0 | 1 => self.send(at, script.size()),
            2 => self.write(at, script.size()),
            3 => self.write(at, usize::MAX),
            4 => self.read(at, script.byte()),
            5 => self.read(at, usize::MAX),
            6 => self.poll(at),
            7 => self.exchange(),
            8 => self.lend(at),
            9 => {
                let now = self.clock.jump(self.clock.at(self.clock.elapsed() + Duration::from_secs(1)));
                self.ends.iter_mut().for_each(|end| end.session.handle_timeout(now));
            }
            10 => {
                let close = if script.byte() & 1 == 0 { Close::graceful() } else { Close::abort() };
                self.ends[at].over = true;
                self.ends[at].session.close(now, close);
            }
            11 => {
                self.ends[at].over = true;
                self.ends[at].session.handle_io_error(now, io::ErrorKind::ConnectionReset);
            }
            12 => self.harm(at, script),
            13 => {
                // Cuts the transport, as an attacker might.
                self.ends[at].touched = true;
                self.ends[at].ended = true;
                self.ends[at].wire.clear();
            }
            14 => self.ends[at].session.pause(),
            _ => self.ends[at].session.resume(now),
        }
    }

    fn send(&mut self, at: usize, size: usize) {
        let made = self.ends[at].made;
        let message = vec![made; size];
        if self.ends[at].session.send(Bytes::from(message.clone())).is_ok() {
            self.ends[at].made = made.wrapping_add(1);
            self.ends[1 - at].expected.push_back(message);
        }
    }

    /// The transport takes up to `most` bytes of the end `at`, and its end of stream.
    fn write(&mut self, at: usize, most: usize) {
        let now = self.clock.now();
        let [from, to] = self.pair(at);
        let mut left = most;
        loop {
            let mut outbound = from.session.outbound(now);
            let n = outbound.chunk().len().min(left);
            if n == 0 {
                break;
            }
            to.wire.extend(&outbound.chunk()[..n]);
            outbound.advance(n);
            left -= n;
        }
        if from.session.wants_shutdown() {
            from.session.handle_shutdown(now);
            to.ended = true;
        }
    }

    fn read(&mut self, at: usize, most: usize) {
        let now = self.clock.now();
        let end = &mut self.ends[at];
        let n = end.wire.len().min(most);
        if n > 0 {
            let bytes: Vec<u8> = end.wire.drain(..n).collect();
            if n & 1 == 0 {
                end.session.handle_input(now, &bytes);
            } else {
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    let mut room = end.session.recv_buf();
                    let n = room.remaining_mut().min(bytes.len());
                    room.put_slice(&bytes[..n]);
                    end.session.handle_read(now);
                    bytes = &bytes[n..];
                }
            }
        }
        if end.wire.is_empty() && end.ended && !end.eof_told {
            end.eof_told = true;
            end.session.handle_eof(now);
        }
    }

    fn poll(&mut self, at: usize) {
        let now = self.clock.now();
        let [end, peer] = self.pair(at);
        for polled in 0.. {
            assert!(polled < 100_000, "the session reports events without end");
            let Some(event) = end.session.poll_event() else { return };
            assert!(end.closed.is_none(), "{event:?} after Closed");
            match event {
                Event::Message(message) => {
                    let expected = end.expected.pop_front();
                    assert_eq!(expected.as_deref(), Some(&message[..]), "a message that was not sent");
                }
                Event::Closed(reason) => {
                    let ends_itself = end.over || matches!(*reason, CloseReason::Timeout(_));
                    let peer_ended = peer.over || peer.closed.is_some();
                    assert!(
                        ends_itself || peer_ended || end.touched || peer.touched,
                        "{reason} although nothing happened"
                    );
                    if end.touched && !peer_ended && !end.over {
                        assert!(!reason.is_clean(), "{reason} on a wire that was touched");
                    }
                    peer.ended = true;
                    end.closed = Some(*reason);
                }
                Event::Eof => end.session.close(now, Close::graceful()),
                _ => {}
            }
        }
    }

    fn lend(&mut self, at: usize) {
        let end = &mut self.ends[at];
        if end.lent {
            drop(end.session.take_back());
        } else {
            end.session.lend(Memory::new());
        }
        end.lent = !end.lent;
    }

    /// Damages the bytes in flight to the end `at`.
    fn harm(&mut self, at: usize, script: &mut Script<'_>) {
        let end = &mut self.ends[at];
        let place = script.byte() * 8 + script.byte();
        match script.byte() {
            kind @ 0..=99 => {
                if let Some(byte) = end.wire.get_mut(place) {
                    *byte ^= 1 << (kind % 8);
                    end.touched = true;
                }
            }
            byte @ 100..=199 => {
                end.wire.push_back(byte as u8);
                end.touched = true;
            }
            _ => {
                end.touched |= place < end.wire.len();
                end.wire.truncate(place);
            }
        }
    }

    fn pair(&mut self, at: usize) -> [&mut End; 2] {
        let [first, second] = &mut self.ends;
        if at == 0 { [first, second] } else { [second, first] }
    }

    /// Lets everything finish.
    fn finish(mut self) {
        let now = self.clock.now();
        self.ends.iter_mut().for_each(|end| end.session.resume(now));
        (0..20).for_each(|_| self.exchange());
        for at in [0, 1] {
            let untouched = !self.ends[at].touched && !self.ends[at].over;
            let peer_is_well = !self.ends[1 - at].over && !self.ends[1 - at].touched;
            if untouched && peer_is_well && self.ends.iter().all(|end| end.closed.is_none()) {
                assert!(
                    self.ends[at].expected.is_empty(),
                    "messages are missing: {}",
                    self.ends[at].expected.len()
                );
            }
        }
        for at in [0, 1] {
            self.ends[at].over = true;
            self.ends[at].session.close(now, Close::graceful());
        }
        (0..20).for_each(|_| self.exchange());
        let later = self.clock.jump(self.clock.at(self.clock.elapsed() + Duration::from_secs(100)));
        for at in [0, 1] {
            self.ends[at].session.handle_timeout(later);
            self.poll(at);
            assert!(self.ends[at].closed.is_some(), "it never ends: {:?}", self.ends[at].session.stats());
            assert!(self.ends[at].session.poll_timeout().is_none());
        }
    }
}
