//! Two RPC peers in memory, under virtual time: calls in both directions, a stream, a deadline, a cancel, and
//! going away. It always runs the same way. The chapter `rpc::embedding` of the crate's documentation
//! explains `Connection`.
//!
//! ```sh
//! cargo run -p getty-core --features rpc --example rpc_memory
//! ```

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::rpc::{
    self, Body, CallId, CodecName, Executed, Frames, GoAwayCode, Peer, PeerFault, Reply, Request, Side,
    Status,
};
use getty_core::{Close, Config, Event, Framed, Session, Timestamp};

const MS: Duration = Duration::from_millis(1);
const LATENCY: Duration = Duration::from_millis(40);

/// One end: a session and the machine beside it.
struct Connection {
    session: Session<Framed<Frames>>,
    peer: Peer,
}

impl Connection {
    fn new(side: Side, now: Timestamp) -> Result<Self, Box<dyn Error>> {
        let rpc = rpc::Config::builder().max_calls(64).build()?;
        let session = Config::builder().max_frame(rpc.max_frame() as usize + 12).build()?;
        let session = Session::new(Framed::new(Frames::new()), session, now);
        Ok(Connection { session, peer: Peer::new(rpc, side, now) })
    }

    /// Takes what has come, lets `handle` work on it, and sends. Returns whether anything happened.
    fn turn(&mut self, now: Timestamp, mut handle: impl FnMut(&mut Peer, rpc::Event)) -> bool {
        let received = self.receive(now);
        self.expire(now);
        let mut handled = false;
        while let Some(event) = self.peer.poll_event() {
            match event {
                rpc::Event::Drained => self.session.close(now, Close::graceful()),
                event => handle(&mut self.peer, event),
            }
            handled = true;
        }
        let sent = self.send(now);
        received || handled || sent
    }

    /// Hands the peer all that the session has received.
    fn receive(&mut self, now: Timestamp) -> bool {
        let mut received = false;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Message(frame) => {
                    if let Err(fault) = self.peer.handle_frame(now, frame) {
                        self.fail(now, fault);
                    }
                }
                Event::Eof => self.session.close(now, Close::graceful()),
                Event::Closed(reason) => {
                    let progress = self.session.stats().progress;
                    self.peer.handle_closed(now, &reason, &progress);
                }
                _ => {}
            }
            received = true;
        }
        received
    }

    /// Ends a connection whose peer broke a rule. The last frame says which.
    fn fail(&mut self, now: Timestamp, fault: PeerFault) {
        self.send(now);
        self.session.close(now, Close::fault(Arc::new(fault)));
    }

    /// Sends frames while there is room for them.
    fn send(&mut self, now: Timestamp) -> bool {
        self.session.end_reply();
        let mut sent = false;
        while self.session.is_open() && self.session.is_writable() {
            let Some(frame) = self.peer.poll_frame(now) else { break };
            match self.session.send(frame) {
                Ok(accepted) => self.peer.frame_sent(accepted),
                Err(error) => self.peer.frame_refused(error),
            }
            sent = true;
        }
        sent
    }

    /// Applies the deadlines that have passed, after what came in time.
    fn expire(&mut self, now: Timestamp) {
        self.session.handle_timeout(now);
        self.peer.handle_alive(self.session.last_active());
        if let Err(fault) = self.peer.handle_timeout(now) {
            self.fail(now, fault);
        }
    }

    /// The latest time of the next turn.
    fn next(&self) -> Option<Timestamp> {
        self.session.poll_timeout().into_iter().chain(self.peer.poll_timeout()).min()
    }
}

/// The application, the same at both ends.
struct App {
    name: &'static str,
    /// Calls of the other end whose items are answered one by one.
    streams: HashSet<CallId>,
    log: Vec<String>,
}

impl App {
    fn new(name: &'static str) -> Self {
        App { name, streams: HashSet::new(), log: Vec::new() }
    }

    fn handle(&mut self, now: Timestamp, peer: &mut Peer, event: rpc::Event) {
        let entry = match event {
            rpc::Event::Request(id, request) => {
                match request.method.as_str() {
                    "text/Upper" if request.more => drop(self.streams.insert(id)),
                    "text/Upper" => peer.respond(id, Ok(reply(upper(&request.body)))),
                    "text/Never" => {}
                    _ => {
                        let status = Status::unimplemented("there is no such method");
                        peer.respond(id, Err(status.with_executed(Executed::No)));
                    }
                }
                return;
            }
            rpc::Event::Item(id, item) => {
                peer.consumed(id, item.bytes.len());
                if self.streams.contains(&id) {
                    // They are few and small: the window has room for all.
                    peer.send_item(id, upper(&item).into()).expect("room");
                    return;
                }
                format!("an item: {}", text(&item))
            }
            rpc::Event::End(id) => {
                self.streams.remove(&id);
                return peer.respond(id, Ok(Reply::default()));
            }
            rpc::Event::Cancelled(id, why) => {
                self.streams.remove(&id); // a handler would be dropped here as well
                peer.release(id);
                format!("cancelled: {why:?}")
            }
            rpc::Event::Ended(_, Ok(reply)) => format!("the answer: {}", text(&reply.body)),
            rpc::Event::Ended(_, Err(status)) => {
                format!("failed: {:?}, executed: {:?}", status.code(), status.executed())
            }
            rpc::Event::GoAway(go_away) => format!("the other end goes away: {}", go_away.text),
            _ => return,
        };
        self.log.push(format!("{:4} ms {}: {entry}", now.since_origin().as_millis(), self.name));
    }
}

fn request(method: &'static str, body: &'static str) -> Request {
    Request::new(method, CodecName::Raw, body)
}

fn reply(body: Bytes) -> Reply {
    Reply { body: body.into(), ..Reply::default() }
}

fn upper(body: &Body) -> Bytes {
    body.bytes.to_ascii_uppercase().into()
}

fn text(body: &Body) -> String {
    String::from_utf8_lossy(&body.bytes).into_owned()
}

/// Runs both ends until they are closed.
pub fn main() -> Result<(), Box<dyn Error>> {
    let mut now = Timestamp::ORIGIN;
    let mut client = Connection::new(Side::Connecting, now)?;
    let mut server = Connection::new(Side::Accepting, now)?;
    let (mut up, mut down) = (Link::default(), Link::default());
    let mut app = App::new("client");
    let mut service = App::new("server");

    // All of this goes out at once: no call waits for the peer's first word.
    client.peer.call(now, request("text/Upper", "hello"), None)?;
    client.peer.call(now, request("text/Nothing", ""), None)?;
    client.peer.call(now, request("text/Never", ""), Some(now + 250 * MS))?;
    let given_up = client.peer.call(now, request("text/Never", ""), None)?;
    let stream = client.peer.call(now, Request { more: true, ..request("text/Upper", "") }, None)?;
    for word in ["one", "two"] {
        client.peer.send_item(stream, Bytes::from(word).into())?;
    }
    client.peer.finish(stream);
    server.peer.call(now, request("text/Upper", "from the server"), None)?;
    let (mut cancel_at, mut leave_at) = (Some(now + 100 * MS), Some(now + 500 * MS));

    while !(client.session.is_closed() && server.session.is_closed()) {
        if cancel_at.take_if(|at| *at <= now).is_some() {
            client.peer.cancel(now, given_up);
        }
        if leave_at.take_if(|at| *at <= now).is_some() {
            server.peer.go_away(now, GoAwayCode::Shutdown, "an update");
        }
        let moved = client.turn(now, |peer, event| app.handle(now, peer, event))
            | server.turn(now, |peer, event| service.handle(now, peer, event))
            | up.carry(&mut client.session, &mut server.session, now)
            | down.carry(&mut server.session, &mut client.session, now);
        if !moved {
            // Nothing is left to do now: jump to the next time when something is.
            let next = [client.next(), server.next(), up.arrival(), down.arrival(), cancel_at, leave_at];
            now = next.into_iter().flatten().min().ok_or("both wait forever")?;
            assert!(now.since_origin() < 10_000 * MS, "the connection should have ended");
        }
    }
    for entry in app.log.iter().chain(&service.log) {
        println!("{entry}");
    }
    assert_eq!(
        app.log,
        [
            "  80 ms client: the answer: HELLO",
            "  80 ms client: failed: Unimplemented, executed: No",
            "  80 ms client: an item: ONE",
            "  80 ms client: an item: TWO",
            "  80 ms client: the answer: ",
            " 250 ms client: failed: DeadlineExceeded, executed: Maybe",
            " 540 ms client: the other end goes away: an update",
        ]
    );
    assert_eq!(
        service.log,
        [
            " 120 ms server: the answer: FROM THE SERVER",
            " 140 ms server: cancelled: ByCaller",
            " 290 ms server: cancelled: Deadline",
            " 580 ms server: the other end goes away: acknowledged",
        ]
    );
    Ok(())
}

/// One direction of a link without losses. Stands in for a socket.
#[derive(Default)]
struct Link {
    /// Data in flight with its arrival time; `None` is the end of the stream.
    pieces: VecDeque<(Timestamp, Option<Bytes>)>,
}

impl Link {
    /// Moves output of `from` onto the link, and arrived data to `to`. Returns whether anything moved.
    fn carry(
        &mut self,
        from: &mut Session<Framed<Frames>>,
        to: &mut Session<Framed<Frames>>,
        now: Timestamp,
    ) -> bool {
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
