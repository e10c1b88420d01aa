//! Ending only the sending side: "send, end, read the answer".

use std::sync::Arc;

use bytes::{Buf, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{Message, ServerOptions, WebSocket};
use getty_core::{
    Close, CloseReason, Config, Event, Framed, HalfCloseError, Idle, Protocol, SendError, Session, Timestamp,
};
use testkit::pair::{Pair, Split, Wire};

use crate::common::secs;

const NOW: Timestamp = Timestamp::ORIGIN;

fn plain() -> Framed<LengthDelimited> {
    Framed::new(LengthDelimited::new())
}

fn session() -> Session<Framed<LengthDelimited>> {
    let mut session = Session::new(plain(), Arc::new(Config::default()), NOW);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    session
}

/// Writes all that `session` has queued, and ends its sending side if it asks for that.
fn flush<P: Protocol>(session: &mut Session<P>) -> usize {
    let mut outbound = session.outbound(NOW);
    let n = outbound.remaining();
    outbound.advance(n);
    drop(outbound);
    if session.wants_shutdown() {
        session.handle_shutdown(NOW);
    }
    n
}

fn closed<P: Protocol>(session: &mut Session<P>) -> CloseReason {
    match session.poll_event() {
        Some(Event::Closed(reason)) => *reason,
        _ => panic!("it has not ended"),
    }
}

#[test]
fn a_client_sends_ends_and_reads_the_answer() {
    for split in [Split::Whole, Split::Every(1)] {
        let mut pair = Pair::new(plain(), plain(), Arc::default()).wires(Wire { split, ..Wire::default() });
        let mut sum = 0;
        pair.b.on_event(move |session, now, event| match event {
            Event::Message(message) => sum += message.len(),
            Event::Eof => {
                session.send(Bytes::from(sum.to_string())).unwrap();
                session.close(now, Close::graceful());
            }
            _ => {}
        });
        pair.settle();
        for _ in 0..3 {
            pair.a.session.send(Bytes::from(vec![7; 100_000])).unwrap();
        }
        pair.a.session.half_close(pair.clock.now()).unwrap();
        assert!(pair.run_until_closed(secs(1)));
        assert_eq!(pair.a.messages(), ["300000"]);
        let ends = [pair.a.close_reason(), pair.b.close_reason()];
        assert!(
            ends.iter().all(|end| matches!(end, Some(CloseReason::Eof { mid_frame: false }))),
            "{ends:?}"
        );
    }
}

#[test]
fn what_was_accepted_goes_first_and_nothing_after_it() {
    let mut session = session();
    session.send(Bytes::from("last")).unwrap();
    let last = session.notify_flushed();
    session.half_close(NOW).unwrap();
    session.half_close(NOW).unwrap(); // changes nothing
    assert!(matches!(session.send(Bytes::new()), Err(SendError::Closed(_))));
    assert!(!session.is_writable() && !session.is_open());
    assert!(!session.wants_shutdown(), "there is something left to write");
    assert_eq!(flush(&mut session), 8);
    assert!(matches!(session.poll_event(), Some(Event::Flushed(seq)) if Some(seq) == last));
    assert!(!session.wants_shutdown(), "once");
    assert!(session.poll_event().is_none());
    assert!(session.wants_read());

    session.handle_input(NOW, b"\0\0\0\x01a");
    assert!(matches!(session.poll_event(), Some(Event::Message(message)) if message == "a"));
    session.handle_eof(NOW);
    assert!(matches!(session.poll_event(), Some(Event::Eof)));
    assert!(session.wants_poll());
    assert!(matches!(closed(&mut session), CloseReason::Eof { mid_frame: false }));
}

#[test]
fn the_peer_may_end_first() {
    // Before this side asks for its own end, or after that but before the transport's sending side has ended.
    for early in [true, false] {
        let mut session = session();
        if !early {
            session.half_close(NOW).unwrap();
        }
        session.handle_eof(NOW);
        assert!(matches!(session.poll_event(), Some(Event::Eof)));
        assert!(session.poll_event().is_none(), "this side may still send");
        if early {
            session.send(Bytes::from("answer")).unwrap();
            session.half_close(NOW).unwrap();
        }
        flush(&mut session);
        assert!(session.wants_poll());
        assert!(matches!(closed(&mut session), CloseReason::Eof { mid_frame: false }));
    }
}

#[test]
fn a_pause_holds_nothing_back_when_both_sides_have_ended() {
    let mut session = session();
    session.handle_eof(NOW);
    assert!(matches!(session.poll_event(), Some(Event::Eof)));
    session.pause();
    session.half_close(NOW).unwrap();
    flush(&mut session);
    assert!(session.wants_poll());
    assert!(matches!(closed(&mut session), CloseReason::Eof { mid_frame: false }));
}

#[test]
fn a_peer_that_is_cut_off_in_a_frame_is_the_reason() {
    let mut session = session();
    session.half_close(NOW).unwrap();
    flush(&mut session);
    session.handle_input(NOW, b"\0\0\0\x09cut");
    session.handle_eof(NOW);
    assert!(matches!(closed(&mut session), CloseReason::Eof { mid_frame: true }));
}

#[test]
fn a_close_after_it_waits_for_the_peer_only() {
    for written in [false, true] {
        let mut session = session();
        session.send(Bytes::from("last")).unwrap();
        session.half_close(NOW).unwrap();
        if written {
            flush(&mut session);
        }
        session.close(NOW, Close::graceful());
        assert!(session.poll_event().is_none());
        assert_eq!(flush(&mut session), if written { 0 } else { 8 });
        assert!(!session.wants_shutdown(), "it is shut down already");
        session.handle_eof(NOW);
        assert!(matches!(closed(&mut session), CloseReason::Local { flushed: true }));
    }
}

#[test]
fn a_session_without_an_answer_is_ended_by_its_idle_deadlines() {
    let config =
        Config::builder().idle_read(secs(5)).idle_write(secs(1)).cron_period(secs(2)).build().unwrap();
    let mut session = Session::new(plain(), config, NOW);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    session.half_close(NOW).unwrap();
    flush(&mut session);
    let mut events = Vec::new();
    for second in 1..=5 {
        session.handle_timeout(Timestamp::from_origin(secs(second)));
        events
            .extend(std::iter::from_fn(|| session.poll_event()).map(|event| format!("{second}: {event:?}")));
    }
    assert_eq!(events, ["2: Cron", "4: Cron", &format!("5: {:?}", Event::<()>::Idle(Idle::Read))]);
}

#[test]
fn it_is_refused_where_it_cannot_be() {
    let mut session = session();
    session.close(NOW, Close::graceful());
    assert_eq!(session.half_close(NOW), Err(HalfCloseError::Closed));

    let options = ServerOptions::new();
    let mut opening = Session::new(WebSocket::server(options), Arc::new(Config::default()), NOW);
    assert_eq!(opening.half_close(NOW), Err(HalfCloseError::NotOpen));
    let (mut client, _) = testkit::websocket::opened(&Arc::default(), NOW);
    assert_eq!(client.half_close(NOW), Err(HalfCloseError::Unsupported));
    client.send(Message::text("it goes on")).unwrap();
}
