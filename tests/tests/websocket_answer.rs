//! Answers to the requests of WebSocket clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use getty_core::websocket::{
    Accept, AnswerError, ClientRequest, Response, ServerOptions, Verdict, WebSocket,
};
use getty_core::{Close, Config, Event, Session};
use testkit::clock::Clock;
use testkit::websocket::{random, written};

/// A server's session with a request that waits for an answer.
fn asked(clock: &Clock) -> Session<WebSocket> {
    let (config, now) = (Config::builder().build().unwrap(), clock.now());
    let request = ClientRequest::new("ws://example.com/").unwrap();
    let mut client = Session::new(WebSocket::client(request, random(1)), config.clone(), now);
    let mut server = Session::new(WebSocket::server(ServerOptions::new()), config, now);
    server.handle_input(now, &written(&mut client, now));
    assert!(matches!(server.poll_event(), Some(Event::Request(_))));
    server
}

/// How a session may end that still has a request to answer.
type End = fn(&mut Session<WebSocket>, &mut Clock);

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let ends: [(&str, End); 5] = [
        ("timeout", |session, clock| session.handle_timeout(clock.advance(Duration::from_secs(3600)))),
        ("close", |session, clock| session.close(clock.now(), Close::graceful())),
        ("abort", |session, clock| session.close(clock.now(), Close::abort())),
        ("refuse", |session, clock| {
            session.close(clock.now(), Close::refuse(Arc::new(AnswerError::NotAsked)))
        }),
        ("failure", |session, clock| session.handle_io_error(clock.now(), io::ErrorKind::ConnectionReset)),
    ];
    for (name, end) in ends {
        for polled in [false, true] {
            for verdict in [Verdict::Accept(Accept::new()), Verdict::Respond(Response::new(403).unwrap())] {
                let mut clock = Clock::new();
                let mut session = asked(&clock);
                end(&mut session, &mut clock);
                if polled {
                    while session.poll_event().is_some() {}
                }
                assert_eq!(session.answer(clock.now(), verdict), Err(AnswerError::NotAsked), "{name}");
                assert!(!session.is_open(), "{name}");
                assert_eq!(written(&mut session, clock.now()), b"", "{name}");
            }
        }
    }
}
