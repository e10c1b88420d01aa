//! [`Listener::on_turn`] on real runtimes: a future in the session's task, and a deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::channel::oneshot;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::datagram::PeerLimits;
use getty_driver::{Context, Listener, framed};

use crate::driver_common::runtimes::{TestRuntime, blocking, connect, server};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(a_stream_is_answered_in_turns, peers_are_answered_in_turns);

/// Sends two replies to each message: once another thread has done its part, and 20 ms after that.
#[derive(Default)]
struct Slow {
    answer: Option<oneshot::Receiver<Bytes>>,
    due: Option<Instant>,
}

impl Listener<Messages> for Slow {
    fn on_message(&mut self, _cx: &mut Context<'_, Messages>, message: Bytes) {
        let (sender, answer) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(5 * MS);
            sender.send(message).unwrap();
        });
        self.answer = Some(answer);
    }

    fn on_turn(&mut self, cx: &mut Context<'_, Messages>, task: &mut task::Context<'_>) -> Option<Instant> {
        if let Some(answer) = &mut self.answer
            && let Poll::Ready(answer) = Pin::new(answer).poll(task)
        {
            cx.send(answer.unwrap()).unwrap();
            self.answer = None;
            self.due = Some(cx.now() + 20 * MS);
        }
        if self.due.take_if(|due| *due <= cx.now()).is_some() {
            cx.send(Bytes::from("later")).unwrap();
        }
        self.due
    }
}

fn a_stream_is_answered_in_turns<R: TestRuntime>() {
    R::block_on(async {
        let server =
            server::<R>().tcp("127.0.0.1:0", framed(LengthDelimited::new), Slow::default).await.unwrap();
        let mut client = connect::<R>(server.local_addr()).await;
        for _ in 0..5 {
            client.send(Bytes::from("hello")).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), "hello");
            assert_eq!(client.recv().await.unwrap().unwrap(), "later");
        }
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

fn peers_are_answered_in_turns<R: TestRuntime>() {
    R::block_on(async {
        let listener = |_| Some(Slow::default());
        let server = server::<R>().udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        let address = server.local_addr();
        let clients = (0..3).map(|_| {
            blocking(move || {
                let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                client.set_read_timeout(Some(secs(20))).unwrap();
                client.connect(address).unwrap();
                client.send(b"hello").unwrap();
                let mut buffer = [0; 10];
                [(), ()].map(|()| {
                    let n = client.recv(&mut buffer).unwrap();
                    buffer[..n].to_vec()
                })
            })
        });
        for answers in futures::future::join_all(clients).await {
            assert_eq!(answers, [b"hello".to_vec(), b"later".to_vec()]);
        }
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}
