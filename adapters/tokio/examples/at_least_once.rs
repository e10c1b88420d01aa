//! At-least-once delivery over changing connections: unacknowledged messages are sent again on the next one.
//!
//! A flushed message has reached the transport, but not necessarily the peer; only the peer's application can
//! confirm that. getty's send progress distinguishes two kinds of retry. A message that certainly was not
//! sent is sent again as new. One that may have arrived is marked as a repetition, so that the receiver can
//! check for a duplicate.
//!
//! On the wire, to the receiver: a message number (8 bytes), a flag (1 byte, not 0 in a repetition), the
//! message. In return: the number of the last message taken. Numbers increase.
//! ```sh
//! cargo run -p getty-tokio --example at_least_once -- receive 127.0.0.1:7000
//! cargo run -p getty-tokio --example at_least_once -- send 127.0.0.1:7000   # lines of standard input
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use getty_tokio::core::codec::LengthDelimited;
use getty_tokio::core::{Close, Progress, Seq};
use getty_tokio::{Client, Connection, Context, Framed, Items, Listener, Server, framed};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// Messages in flight; further ones wait at the sender.
const WINDOW: usize = 1000;

/// Wait before the next attempt to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// A message not yet acknowledged.
struct Parcel {
    number: u64,
    body: Bytes,
    /// Its sequence number on the current connection, if it was sent on it.
    seq: Option<Seq>,
    /// Whether an earlier connection ended when it may have arrived.
    repeated: bool,
}

/// Counts of what happened to the messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Messages accepted from the application.
    pub accepted: u64,
    /// Messages that the receiver has taken.
    pub acknowledged: u64,
    /// Times a connection ended before a message was sent; the message went unchanged to the next connection.
    pub unsent: u64,
    /// Times a connection ended when a message may have arrived; the message was repeated.
    pub uncertain: u64,
}

/// Delivers messages to a receiver.
pub struct Courier {
    address: String,
    last: u64,
    kept: VecDeque<Parcel>,
    account: Account,
}

impl Courier {
    /// Makes a courier to `address`.
    pub fn new(address: String) -> Self {
        Courier { address, last: 0, kept: VecDeque::new(), account: Account::default() }
    }

    /// Delivers all messages from `orders`, until that is closed and everything is acknowledged.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Bytes>) -> Account {
        while !(orders.is_closed() && orders.is_empty() && self.kept.is_empty()) {
            let connecting =
                Client::builder().tcp_connection(&self.address, Framed::new(LengthDelimited::new()));
            match connecting.await {
                Ok(mut connection) => {
                    self.deliver(&mut connection, &mut orders).await;
                    self.settle(connection.stats().progress);
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.account
    }

    /// Sends over one connection, until it ends or everything is delivered.
    async fn deliver(
        &mut self,
        connection: &mut Connection<Framed<LengthDelimited>>,
        orders: &mut mpsc::Receiver<Bytes>,
    ) {
        for parcel in &mut self.kept {
            let Ok(accepted) = connection.feed(parcel.wire()).await else { return };
            parcel.seq = Some(accepted.seq);
        }
        loop {
            if orders.is_closed() && orders.is_empty() && self.kept.is_empty() {
                connection.close(Close::graceful()).await;
                return;
            }
            tokio::select! {
                order = orders.recv(), if self.kept.len() < WINDOW && !(orders.is_closed() && orders.is_empty()) => {
                    let Some(body) = order else { continue };
                    self.last += 1;
                    self.account.accepted += 1;
                    let mut parcel = Parcel { number: self.last, body, seq: None, repeated: false };
                    let fed = connection.feed(parcel.wire()).await;
                    parcel.seq = fed.as_ref().ok().map(|accepted| accepted.seq);
                    self.kept.push_back(parcel); // stored first, so that it can't be lost
                    if fed.is_err() {
                        return;
                    }
                }
                taken = connection.recv() => match taken {
                    Ok(Some(taken)) => self.acknowledge(&taken),
                    _ => {
                        connection.close(Close::abort()).await;
                        return;
                    }
                },
            }
        }
    }

    fn acknowledge(&mut self, taken: &[u8]) {
        let Ok(number) = taken.try_into().map(u64::from_be_bytes) else { return };
        while self.kept.front().is_some_and(|parcel| parcel.number <= number) {
            self.kept.pop_front();
            self.account.acknowledged += 1;
        }
    }

    /// Decides, after the end of a connection, which unacknowledged messages may have arrived.
    fn settle(&mut self, progress: Progress) {
        // A partly written message is useless to the receiver. But of messages that TLS sealed together and
        // that were written in part, some may have arrived.
        let last_uncertain = progress.flushed.max(progress.unknown);
        for parcel in &mut self.kept {
            let Some(seq) = parcel.seq.take() else { continue };
            if Some(seq) <= last_uncertain {
                parcel.repeated = true;
                self.account.uncertain += 1;
            } else {
                self.account.unsent += 1;
            }
        }
    }
}

impl Parcel {
    fn wire(&self) -> Bytes {
        let mut wire = BytesMut::with_capacity(9 + self.body.len());
        wire.put_u64(self.number);
        wire.put_u8(self.repeated.into());
        wire.put_slice(&self.body);
        wire.freeze()
    }
}

/// Receives messages. Passes the closure the number, whether it may be a repetition, and the message.
pub struct Desk<F>(pub F);

impl<F: FnMut(u64, bool, Bytes) + Send + 'static> Listener<Items<Bytes>> for Desk<F> {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, mut message: Bytes) {
        if message.len() < 9 {
            return cx.close(Close::abort()); // not our protocol
        }
        let (number, repeated) = (message.get_u64(), message.get_u8() != 0);
        (self.0)(number, repeated, message); // store it first, then acknowledge it
        let _ = cx.send(Bytes::copy_from_slice(&number.to_be_bytes()));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", address] => {
            let desk = || {
                Desk(|number, repeated, message: Bytes| {
                    let again = if repeated { " (perhaps again)" } else { "" };
                    println!("{number}{again}: {}", message.escape_ascii());
                })
            };
            let server = Server::builder().tcp(address, framed(LengthDelimited::new), desk).await?;
            tokio::signal::ctrl_c().await?;
            server.shutdown(Duration::from_secs(1)).await;
        }
        ["send", address] => {
            let (orders, incoming) = mpsc::channel(WINDOW);
            let courier = tokio::spawn(Courier::new(address.to_owned()).run(incoming));
            let mut lines = BufReader::new(tokio::io::stdin()).lines();
            while let Some(line) = lines.next_line().await? {
                let _ = orders.send(line.into()).await;
            }
            drop(orders);
            println!("{:?}", courier.await?);
        }
        _ => eprintln!("expected: receive ADDRESS, or send ADDRESS"),
    }
    Ok(())
}
