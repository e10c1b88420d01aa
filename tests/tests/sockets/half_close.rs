//! Ending only the sending side, by a listener, a handle and a connection. The peer is a socket of the
//! standard library.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{ClientRequest, ServerOptions, WebSocket, Whole};
use getty_core::{Close, CloseReason, Framed, HalfCloseError, SendError, framed};
use getty_driver::{Client, Context, Listener, SinkError};

use crate::driver_common::recorder::{Log, Recorder};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, connect, in_time, server};
use crate::driver_common::socket::Socket;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    a_connection_sends_ends_and_receives,
    a_handle_ends_after_what_it_posted,
    a_listener_answers_and_ends,
    websocket_and_datagrams_have_none,
);

/// Starts a peer that reads until the client ends its stream, and then replies with the number of bytes.
/// Returns its address.
fn counting_peer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).unwrap();
        stream.write_all(&frame(sent.len().to_string().as_bytes())).unwrap();
    });
    address
}

fn a_connection_sends_ends_and_receives<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let mut connection = connect::<R>(counting_peer()).await;
        for _ in 0..10 {
            connection.feed(Bytes::from(vec![7; 100_000])).await.unwrap();
        }
        connection.half_close().unwrap();
        connection.half_close().unwrap();
        let error = connection.send(Bytes::new()).await.unwrap_err();
        assert!(matches!(error, SinkError::Send(SendError::Closed(_))), "{error:?}");
        assert_eq!(connection.recv().await.unwrap(), Some(Bytes::from("1000040")));
        assert_eq!(connection.recv().await.unwrap(), None);
        assert_eq!(connection.half_close(), Err(HalfCloseError::Closed));
    }));
}

fn a_handle_ends_after_what_it_posted<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (recorder, log) = Recorder::quiet();
        let address = counting_peer().to_string();
        let handle =
            client::<R>().tcp(&address, Framed::new(LengthDelimited::new()), recorder).await.unwrap();
        for _ in 0..10 {
            handle.send(Bytes::from(vec![7; 100_000])).await.unwrap();
        }
        handle.half_close().await.unwrap();
        assert!(matches!(handle.send(Bytes::new()).await, Err(SendError::Closed(_))));
        let reason = handle.closed().await;
        assert!(matches!(reason, CloseReason::Eof { mid_frame: false }), "{reason}");
        assert_eq!(log.count("on_message"), 1);
        assert!(handle.take_unsent().is_empty());
        assert!(handle.half_close().await.is_ok(), "it has ended its side already");
    }));
}

/// Replies to the first message and ends its side, then counts further messages.
struct AnswersOnce(Log);

impl Listener<Messages> for AnswersOnce {
    fn on_message(&mut self, cx: &mut Context<'_, Messages>, message: Bytes) {
        if cx.send(message).is_ok() {
            cx.half_close().unwrap();
        }
        self.0.note("on_message");
    }
}

fn a_listener_answers_and_ends<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let log = Log::default();
        let seen = log.clone();
        let server = server::<R>()
            .tcp("127.0.0.1:0", framed(LengthDelimited::new), move || AnswersOnce(seen.clone()))
            .await
            .unwrap();
        let address = server.local_addr();
        let came = blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&frame(b"question")).unwrap();
            let mut came = Vec::new();
            stream.read_to_end(&mut came).unwrap(); // the server has ended its side
            for _ in 0..3 {
                stream.write_all(&frame(b"more")).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            came
        });
        assert_eq!(came.await, frame(b"question"));
        runtimes::until::<R>("all messages are counted", || log.count("on_message") == 4).await;
        runtimes::until::<R>("both sides have ended", || server.sessions() == 0).await;
    }));
}

fn websocket_and_datagrams_have_none<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let log = Log::default();
        let options = ServerOptions::new();
        let websocket = server::<R>()
            .tcp("127.0.0.1:0", WebSocket::serving(options), move || Socket::new(&log))
            .await
            .unwrap();
        let request = ClientRequest::new(&format!("ws://{}", websocket.local_addr())).unwrap();
        let mut connection = Client::<R>::builder().websocket_connection(request, Whole).await.unwrap();
        connection.opened().await.unwrap();
        assert_eq!(connection.half_close(), Err(HalfCloseError::Unsupported));
        connection.close(Close::graceful()).await;

        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (recorder, _log) = Recorder::quiet();
        let address = peer.local_addr().unwrap().to_string();
        let handle = client::<R>().udp(&address, LengthDelimited::new(), recorder).await.unwrap();
        assert_eq!(handle.half_close().await, Err(HalfCloseError::Unsupported));
        handle.send(Bytes::from("it goes on")).await.unwrap();
        handle.close(Close::graceful());
        handle.closed().await;
    }));
}
