//! [`PacketEngine`]: moves datagrams between a socket and the machine of its sessions.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{Outgoing, Packets, PeerKey, Peers, RecvBatch};
use getty_core::{Event, IoFailure, Items, Seq, Timestamp, Work};

use crate::drive::engine::Engine;
use crate::drive::timing::earlier;
use crate::drive::trouble::{Finding, Trouble};
use crate::runtime::io::PacketIo;
use crate::runtime::thread_memory;
use crate::socket::udp::errors;

/// A socket with the machine of its sessions. Does not depend on listeners and handles.
pub(crate) struct PacketEngine<I, D> {
    pub(crate) machine: D,
    pub(crate) io: I,
    trouble: Trouble,
}

/// The common interface of the two datagram machines.
pub(crate) trait Datagrams {
    /// Identifies a message accepted for sending.
    type Sent;

    fn handle_datagrams(&mut self, now: Timestamp, batch: RecvBatch) -> Result<(), RecvBatch>;
    fn handle_sent(&mut self, now: Timestamp, n: usize);
    fn handle_unsent(&mut self, now: Timestamp, failure: IoFailure) -> Option<Self::Sent>;
    fn handle_unreachable(&mut self, now: Timestamp, peer: Option<SocketAddr>, failure: IoFailure);
    fn handle_io_error(&mut self, now: Timestamp, failure: IoFailure);
    fn outgoing(&mut self, now: Timestamp) -> &Outgoing;
    fn take_batch(&mut self) -> Option<RecvBatch>;
    fn wants_read(&self) -> bool;
    fn wants_write(&self) -> bool;
    /// Datagrams waiting to be sent.
    fn outgoing_len(&self) -> usize;
    fn poll_timeout(&self) -> Option<Timestamp>;
}

impl<I: PacketIo, D: Datagrams> PacketEngine<I, D> {
    pub(crate) fn new(machine: D, io: I) -> Self {
        PacketEngine { machine, io, trouble: Trouble::default() }
    }

    /// Receives once, unless receiving rests. Ready if there was a datagram or an error.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<()> {
        if self.trouble.is_resting(now) {
            return Poll::Pending;
        }
        let mut batch = self.machine.take_batch().unwrap_or_else(thread_memory::take_batch);
        let received = self.io.poll_recv(cx, &mut batch);
        // Also when the batch is empty: replies waiting to be sent lie in memory that is returned with it.
        if let Err(batch) = self.machine.handle_datagrams(now, batch) {
            thread_memory::give_batch_back(batch);
        }
        let failure = match received {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => return Poll::Ready(()),
            Poll::Ready(Err(error)) => IoFailure::from(error),
            received => {
                self.trouble.end();
                return received.map(drop);
            }
        };
        if errors::ends_receiving(failure) {
            self.machine.handle_io_error(now, failure);
            return Poll::Ready(());
        }
        match self.trouble.find(failure, now) {
            Finding::New => self.machine.handle_unreachable(now, self.io.peer_addr(), failure),
            Finding::TryAgain => {}
            Finding::Rest => return Poll::Pending,
            Finding::Stays => self.machine.handle_io_error(now, failure),
        }
        Poll::Ready(())
    }

    /// Whether enough waits to be sent although there may be more to receive. Gathering more would save
    /// little, and replies to a longer burst overflow the receive buffers on the way: 1 % of 1 KiB replies
    /// were lost before.
    pub(crate) fn is_send_due(&self) -> bool {
        self.machine.outgoing_len() >= RecvBatch::SLOTS
    }

    /// Sends waiting datagrams, as far as the socket takes them; returns whether it sent any. Calls
    /// `unsent` for each message that could not be sent.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        mut unsent: impl FnMut(D::Sent, IoFailure),
    ) -> bool {
        let mut sent = false;
        // The error may be about an earlier datagram: try the first one once more.
        let mut earlier = None;
        while self.machine.wants_write() {
            match self.io.poll_send(cx, self.machine.outgoing(now)) {
                Poll::Ready(Ok(n)) => {
                    self.machine.handle_sent(now, n.max(1));
                    self.report_earlier(now, earlier.take());
                }
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => {
                    let failure = IoFailure::from(error);
                    let peer = self.io.peer_addr();
                    if errors::ends_sending(failure) {
                        self.machine.handle_io_error(now, failure);
                    } else if peer.is_some() && earlier.is_none() && errors::may_be_of_earlier(failure) {
                        earlier = Some(failure);
                    } else {
                        self.report_earlier(now, earlier.take().filter(|earlier| *earlier != failure));
                        if let Some(message) = self.machine.handle_unsent(now, failure) {
                            unsent(message, failure);
                        }
                    }
                }
                Poll::Pending => break,
            }
            sent = true;
        }
        self.report_earlier(now, earlier);
        sent
    }

    /// Reports that a datagram sent earlier was not delivered, if there is such a report.
    fn report_earlier(&mut self, now: Timestamp, failure: Option<IoFailure>) {
        if let Some(failure) = failure {
            self.machine.handle_unreachable(now, self.io.peer_addr(), failure);
        }
    }

    /// The time at which the machine or the socket has work, unless something happens earlier.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let rested = self.trouble.rests_until().filter(|_| self.machine.wants_read());
        earlier(self.machine.poll_timeout(), rested)
    }

    /// Returns the batch to the thread.
    pub(crate) fn give_back(&mut self) {
        if let Some(batch) = self.machine.take_batch() {
            thread_memory::give_batch_back(batch);
        }
    }
}

impl<I, C, O> Engine for PacketEngine<I, Packets<C, O>>
where
    I: PacketIo,
    C: Decoder + Encoder<O>,
{
    type Messages = Items<C::Item, O>;
    type Session = Packets<C, O>;

    /// Each read may return many datagrams.
    const TURN_READS: u32 = 16;

    fn begin_turn(&mut self) {}

    fn end_turn(&mut self) {
        self.give_back();
    }

    fn session(&mut self) -> &mut Packets<C, O> {
        &mut self.machine
    }

    fn wants_poll(&self) -> bool {
        self.machine.wants_poll()
    }

    fn poll_message(&mut self, _limit: u64) -> Option<C::Item> {
        self.machine.poll_message()
    }

    fn poll_event(&mut self, _limit: u64) -> Option<Event<C::Item>> {
        self.machine.poll_event()
    }

    /// None: the number of datagrams bounds their work.
    fn work(&self) -> Work {
        Work::default()
    }

    fn wants_read(&self) -> bool {
        self.machine.wants_read()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize> {
        self.poll_receive(cx, now).map(|()| 0)
    }

    fn wants_write(&self) -> bool {
        self.machine.wants_write()
    }

    fn has_much_to_write(&self) -> bool {
        self.is_send_due()
    }

    fn is_writable(&self) -> bool {
        self.machine.is_writable()
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        unsent: impl FnMut(Seq, IoFailure),
    ) -> Option<usize> {
        self.send(cx, now, unsent).then_some(0)
    }

    fn is_closing(&self) -> bool {
        !self.machine.is_open() && !self.machine.is_over()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        PacketEngine::next_deadline(self)
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.machine.handle_timeout(now);
    }
}

/// Implements [`Datagrams`] for a machine by its own methods.
macro_rules! datagrams {
    ($machine:ident, $sent:ty) => {
        impl<C: Decoder + Encoder<O>, O> Datagrams for $machine<C, O> {
            type Sent = $sent;

            fn handle_datagrams(&mut self, now: Timestamp, batch: RecvBatch) -> Result<(), RecvBatch> {
                $machine::handle_datagrams(self, now, batch)
            }

            fn handle_sent(&mut self, now: Timestamp, n: usize) {
                $machine::handle_sent(self, now, n);
            }

            fn handle_unsent(&mut self, now: Timestamp, failure: IoFailure) -> Option<$sent> {
                $machine::handle_unsent(self, now, failure)
            }

            fn handle_unreachable(&mut self, now: Timestamp, peer: Option<SocketAddr>, failure: IoFailure) {
                $machine::handle_unreachable(self, now, peer, failure);
            }

            fn handle_io_error(&mut self, now: Timestamp, failure: IoFailure) {
                $machine::handle_io_error(self, now, failure);
            }

            fn outgoing(&mut self, now: Timestamp) -> &Outgoing {
                $machine::outgoing(self, now)
            }

            fn take_batch(&mut self) -> Option<RecvBatch> {
                $machine::take_batch(self)
            }

            fn wants_read(&self) -> bool {
                $machine::wants_read(self)
            }

            fn wants_write(&self) -> bool {
                $machine::wants_write(self)
            }

            fn outgoing_len(&self) -> usize {
                $machine::outgoing_len(self)
            }

            fn poll_timeout(&self) -> Option<Timestamp> {
                $machine::poll_timeout(self)
            }
        }
    };
}

datagrams!(Packets, Seq);
datagrams!(Peers, (PeerKey, Seq));
