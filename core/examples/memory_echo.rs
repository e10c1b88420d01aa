//! A client and an echo server in memory, under virtual time: hours of heartbeats pass at once, always the
//! same way. Use this to test an application's sessions, deadlines included.
//!
//! ```sh
//! cargo run -p getty-core --example memory_echo
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Config, Event, Framed, Session, Timestamp};

type Peer = Session<Framed<LengthDelimited>>;

const LATENCY: Duration = Duration::from_millis(40);
const MINUTE: Duration = Duration::from_secs(60);
const HEARTBEATS: usize = 180;

/// One direction of a link without losses. Stands in for a socket.
#[derive(Default)]
struct Link {
    /// Data in flight with its arrival time; `None` is the end of the stream.
    pieces: VecDeque<(Timestamp, Option<Bytes>)>,
}

/// Runs the client and the server until both are closed.
pub fn main() -> Result<(), Box<dyn Error>> {
    let codec = || Framed::new(LengthDelimited::new());
    let mut now = Timestamp::ORIGIN;
    let mut client = Peer::new(codec(), Config::builder().cron_period(MINUTE).build()?, now);
    let mut server = Peer::new(codec(), Config::builder().idle_read(10 * MINUTE).build()?, now);
    let (mut up, mut down) = (Link::default(), Link::default());
    let (mut sent, mut echoed) = (0, 0);
    let mut log = Vec::new();

    loop {
        client.handle_timeout(now);
        server.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            match event {
                // The heart beats for three hours, then stops.
                Event::Cron if sent < HEARTBEATS => {
                    sent += 1;
                    client.send(Bytes::from(format!("heartbeat {sent}")))?;
                }
                Event::Message(echo) => {
                    echoed += 1;
                    assert_eq!(echo, format!("heartbeat {echoed}"));
                }
                Event::Eof => client.close(now, Close::graceful()),
                Event::Closed(reason) => log.push((now, format!("client: {reason}"))),
                _ => {}
            }
        }
        while let Some(event) = server.poll_event() {
            match event {
                Event::Message(message) => drop(server.send(message)?),
                Event::Idle(_) => {
                    log.push((now, "server: nothing was received for ten minutes".to_owned()));
                    server.close(now, Close::graceful());
                }
                Event::Closed(reason) => log.push((now, format!("server: {reason}"))),
                _ => {}
            }
        }
        if client.is_closed() && server.is_closed() {
            break;
        }
        let moved = [up.carry(&mut client, &mut server, now), down.carry(&mut server, &mut client, now)];
        if moved == [false, false] {
            // Nothing is left to do now: jump to the next time when something is.
            let next = [client.poll_timeout(), server.poll_timeout(), up.arrival(), down.arrival()];
            now = next.into_iter().flatten().min().ok_or("both wait forever")?;
            assert!(now.since_origin() < 24 * 60 * MINUTE, "the sessions should have ended");
        }
    }

    println!("{echoed} heartbeats, a minute apart, came back");
    for (at, what) in &log {
        println!("{:>12.3?} {what}", at.since_origin());
    }
    let at = |passed: Duration, what: &str| (Timestamp::from_origin(passed), what.to_owned());
    let last = 180 * MINUTE + LATENCY; // arrival of the last heartbeat
    let idle = last + 10 * MINUTE;
    assert_eq!(echoed, HEARTBEATS);
    assert_eq!(
        log,
        [
            at(idle, "server: nothing was received for ten minutes"),
            at(idle + LATENCY, "client: closed by the peer"),
            at(idle + 2 * LATENCY, "server: closed by this end"),
        ]
    );
    Ok(())
}

impl Link {
    /// Moves output of `from` onto the link, and arrived data to `to`. Returns whether anything moved.
    fn carry(&mut self, from: &mut Peer, to: &mut Peer, now: Timestamp) -> bool {
        let mut moved = false;
        let mut outbound = from.outbound(now);
        if outbound.has_remaining() {
            let all = outbound.remaining();
            self.pieces.push_back((now + LATENCY, Some(outbound.copy_to_bytes(all))));
            moved = true;
        }
        drop(outbound);
        if from.wants_shutdown() {
            self.pieces.push_back((now + LATENCY, None));
            from.handle_shutdown(now);
            moved = true;
        }
        // Data after the end is delivered too; the session drops it.
        while (to.wants_read() || to.is_closed()) && self.arrival().is_some_and(|at| at <= now) {
            match self.pieces.pop_front() {
                Some((_, Some(bytes))) => to.handle_input(now, &bytes),
                _ => to.handle_eof(now),
            }
            moved = true;
        }
        moved
    }

    fn arrival(&self) -> Option<Timestamp> {
        self.pieces.front().map(|(at, _)| *at)
    }
}
