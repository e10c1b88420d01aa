//! At-least-once delivery over connections that come and go: what was not acknowledged is sent again on the next one.
//!
//! That a message is flushed says that the transport has it, not that the peer does: only the peer's application can say
//! that. What getty knows tells the two kinds of retry apart: a message that surely was not sent is as good as new, one
//! that may have arrived is marked, so that whoever receives it can look whether it was there before.
//!
//! On the wire: to the receiver, 8 bytes of number, 1 byte that is not 0 in a repetition, the message; back, the number of
//! the last message that was taken. Numbers rise.
//!
//! ```sh
//! cargo run -p getty-tokio --example at_least_once -- receive 127.0.0.1:7000
//! cargo run -p getty-tokio --example at_least_once -- send 127.0.0.1:7000   # lines of standard input
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use getty_tokio::core::codec::LengthDelimited;
use getty_tokio::core::{Close, Progress, Seq};
use getty_tokio::{Client, Connection, Context, Items, Listener, Server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// How many messages may be on their way; more wait with their sender.
const WINDOW: usize = 1000;

/// How long to wait before the next try to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// A message that was not acknowledged yet.
struct Parcel {
    number: u64,
    body: Bytes,
    /// Its number among the messages of the present connection, if it was sent on that.
    seq: Option<Seq>,
    /// An earlier connection ended while it may have arrived.
    repeated: bool,
}

/// What became of messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Messages that were accepted from the application.
    pub accepted: u64,
    /// Those that the receiver has taken.
    pub acknowledged: u64,
    /// How often a connection ended before a message was sent: it went to the next one as it was.
    pub unsent: u64,
    /// How often a connection ended when a message may have arrived or not: it was repeated.
    pub uncertain: u64,
}

/// Brings messages to a receiver.
pub struct Courier {
    address: String,
    last: u64,
    kept: VecDeque<Parcel>,
    account: Account,
}

impl Courier {
    /// Brings them to `address`.
    pub fn new(address: String) -> Self {
        Courier { address, last: 0, kept: VecDeque::new(), account: Account::default() }
    }

    /// Delivers everything that comes by `orders`, until that is closed and all is acknowledged.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Bytes>) -> Account {
        while !(orders.is_closed() && orders.is_empty() && self.kept.is_empty()) {
            let connecting = Client::builder().tcp_connection(&self.address, LengthDelimited::new());
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

    /// Sends over one connection, until that is over or there is nothing left to do.
    async fn deliver(
        &mut self,
        connection: &mut Connection<LengthDelimited>,
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
                    self.kept.push_back(parcel); // kept in any case, before anything else happens
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

    /// A connection is over: what of the messages that were not acknowledged may have arrived?
    fn settle(&mut self, progress: Progress) {
        // Of a message that was written in part, the receiver can make nothing; of those that were sealed together (TLS) and
        // written in part, perhaps something.
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

/// Takes messages: `take` has each, and whether it may have been there before.
pub struct Desk<F>(pub F);

impl<F: FnMut(u64, bool, Bytes) + Send + 'static> Listener<Items<Bytes>> for Desk<F> {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, mut message: Bytes) {
        if message.len() < 9 {
            return cx.close(Close::abort()); // that is none of ours
        }
        let (number, repeated) = (message.get_u64(), message.get_u8() != 0);
        (self.0)(number, repeated, message); // first it is safe here, then it is acknowledged
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
            let server = Server::builder().tcp(address, LengthDelimited::new, desk).await?;
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
