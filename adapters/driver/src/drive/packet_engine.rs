//! [`PacketEngine`]: moves datagrams and time between a socket and what knows its sessions.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{Outgoing, Packets, PeerKey, Peers, RecvBatch};
use getty_core::{IoFailure, Seq, Timestamp};

use crate::drive::late::Late;
use crate::drive::trouble::{Finding, Trouble};
use crate::runtime::alarm::Alarm;
use crate::runtime::io::PacketIo;
use crate::runtime::{Runtime, thread_memory};
use crate::socket::udp::errors;

/// A socket, its timer, and the machine that knows its sessions. Knows nothing of listeners and handles.
pub(crate) struct PacketEngine<R: Runtime, I, D> {
    pub(crate) machine: D,
    pub(crate) io: I,
    alarm: Alarm<R>,
    late: Late,
    trouble: Trouble,
}

/// What both machines over datagrams have in common.
pub(crate) trait Datagrams {
    /// Names a message that was accepted for sending.
    type Sent;

    fn handle_datagrams(&mut self, now: Timestamp, batch: RecvBatch) -> Result<(), RecvBatch>;
    fn handle_timeout(&mut self, now: Timestamp);
    fn handle_sent(&mut self, now: Timestamp, n: usize);
    fn handle_unsent(&mut self, now: Timestamp, failure: IoFailure) -> Option<Self::Sent>;
    fn handle_unreachable(&mut self, now: Timestamp, peer: Option<SocketAddr>, failure: IoFailure);
    fn handle_io_error(&mut self, now: Timestamp, failure: IoFailure);
    fn outgoing(&mut self, now: Timestamp) -> &Outgoing;
    fn take_batch(&mut self) -> Option<RecvBatch>;
    fn wants_read(&self) -> bool;
    fn wants_write(&self) -> bool;
    /// How many datagrams wait to be sent.
    fn outgoing_len(&self) -> usize;
    fn poll_timeout(&self) -> Option<Timestamp>;
}

impl<R: Runtime, I: PacketIo, D: Datagrams> PacketEngine<R, I, D> {
    pub(crate) fn new(machine: D, io: I) -> Self {
        PacketEngine { machine, io, alarm: Alarm::new(), late: Late::default(), trouble: Trouble::default() }
    }

    /// Lets the machine's deadlines expire, if one is due and the task is not [`Late`]. Returns whether it
    /// did.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let acts = self.late.acts::<R>(cx, self.machine.poll_timeout(), now);
        if acts {
            self.machine.handle_timeout(now);
        }
        acts
    }

    /// Receives once, unless receiving rests. Ready if anything came, be it an error.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<()> {
        if self.trouble.is_resting(now) {
            return Poll::Pending;
        }
        let mut batch = self.machine.take_batch().unwrap_or_else(thread_memory::take_batch);
        let received = self.io.poll_recv(cx, &mut batch);
        // Also when it is empty: answers that wait to be sent lie in memory that goes back with it.
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

    /// Whether enough waits to be sent although there may be more to receive. To gather more would save little, and the
    /// answers to a longer burst overflow the receive buffers on the way: those of 1 KiB lost 1 % before.
    pub(crate) fn is_send_due(&self) -> bool {
        self.machine.outgoing_len() >= RecvBatch::SLOTS
    }

    /// Sends what waits, as far as the socket takes it; says whether that was anything. `unsent` is told of each message that
    /// could not be sent.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        mut unsent: impl FnMut(D::Sent, IoFailure),
    ) -> bool {
        let mut sent = false;
        // An error that may be about an earlier datagram: the first one is tried once more.
        let mut earlier = None;
        while self.machine.wants_write() {
            match self.io.poll_send(cx, self.machine.outgoing(now)) {
                Poll::Ready(Ok(n)) => {
                    self.machine.handle_sent(now, n.max(1));
                    self.tell_earlier(now, earlier.take());
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
                        self.tell_earlier(now, earlier.take().filter(|earlier| *earlier != failure));
                        if let Some(message) = self.machine.handle_unsent(now, failure) {
                            unsent(message, failure);
                        }
                    }
                }
                Poll::Pending => break,
            }
            sent = true;
        }
        self.tell_earlier(now, earlier);
        sent
    }

    /// Takes a report that a datagram sent before did not arrive, if there is one.
    fn tell_earlier(&mut self, now: Timestamp, failure: Option<IoFailure>) {
        if let Some(failure) = failure {
            self.machine.handle_unreachable(now, self.io.peer_addr(), failure);
        }
    }

    /// A turn is over: gives the batch back to the thread, and sees to it that the task wakes when something is due. Ready
    /// if that has come.
    pub(crate) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.late.has_yielded() {
            return Poll::Pending; // the deadline has passed: the task would wake itself at once
        }
        let rested = self.trouble.rests_until().filter(|_| self.machine.wants_read());
        self.alarm.poll(cx, [self.machine.poll_timeout(), rested].into_iter().flatten().min())
    }

    /// Gives the batch back to the thread.
    pub(crate) fn give_back(&mut self) {
        if let Some(batch) = self.machine.take_batch() {
            thread_memory::give_batch_back(batch);
        }
    }
}

/// The same functions of either machine.
macro_rules! datagrams {
    ($machine:ident, $sent:ty) => {
        impl<C: Decoder + Encoder<O>, O> Datagrams for $machine<C, O> {
            type Sent = $sent;

            fn handle_datagrams(&mut self, now: Timestamp, batch: RecvBatch) -> Result<(), RecvBatch> {
                $machine::handle_datagrams(self, now, batch)
            }

            fn handle_timeout(&mut self, now: Timestamp) {
                $machine::handle_timeout(self, now);
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
