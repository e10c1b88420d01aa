//! [`Open`]: what an open RPC session has.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

#[cfg(feature = "tls")]
use getty_core::layer::tls::TlsFacts;
use getty_core::rpc::{Frame, Peer, PeerFault};
use getty_core::{Close, Items, Timestamp};

use crate::rpc::call::Connection;
use crate::rpc::calls::Calls;
use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::mailbox::Mailbox;
use crate::rpc::names::Names;
use crate::rpc::team::Membership;
use crate::runtime::thread_memory::lend_coders;
use crate::session::context::Context;

pub(super) type Session<'a> = Context<'a, Items<Frame>>;

/// What an open session has.
pub(super) struct Open<F> {
    pub(super) peer: Peer,
    /// The place in the team, until the session leaves.
    pub(super) membership: Option<Membership>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<TlsFacts>>,
    /// Made for a turn, and kept while there are calls.
    pub(super) calls: Option<Box<Calls<F>>>,
    /// When this side goes away because of its age.
    pub(super) leaves_at: Option<Timestamp>,
    /// This side serves, or has callers.
    pub(super) is_used: bool,
    /// The session is to be closed once its queue is written.
    pub(super) is_done: bool,
    /// The peer sends nothing more: the session is to be closed once what has come is decompressed.
    pub(super) has_ended: bool,
}

impl<F: Future<Output = Response>> Open<F> {
    /// Begins a turn of `task`, with the memory of calls.
    pub(super) fn begin_turn(
        &mut self,
        cx: &Session<'_>,
        task: &Waker,
        now: Timestamp,
        mailbox: &Arc<Mailbox>,
        served: &Arc<Names>,
    ) {
        let calls = self.calls.get_or_insert_with(|| {
            Box::new(Calls::new(Connection {
                mailbox: mailbox.clone(),
                session: cx.id(),
                local: cx.local_addr(),
                peer: cx.peer_addr(),
                served: served.clone(),
                #[cfg(feature = "tls")]
                tls: self.tls.clone(),
                shared: Default::default(),
                now: AtomicU64::new(now.as_nanos()),
            }))
        });
        if calls.task.as_ref().is_none_or(|known| !known.will_wake(task)) {
            calls.task = Some(task.clone());
            mailbox.set_task(task);
        }
        calls.desk.now = now;
        calls.connection.now.store(now.as_nanos(), Ordering::Relaxed);
        if let Some(shared) = cx.shared() {
            calls.connection.shared.get_or_init(|| shared.clone());
        }
    }

    /// Closes the session because the peer broke a rule. What this side says to it goes first. The handlers
    /// end at once: they have no turn any longer, and must not hold what they have while the session closes.
    pub(super) fn fail(&mut self, cx: &mut Session<'_>, now: Timestamp, fault: PeerFault) {
        if let Some(calls) = &mut self.calls {
            calls.stop_all();
        }
        self.send(cx, now);
        cx.close(Close::fault(Arc::new(fault)));
    }

    /// Sends what the machine has while there is room.
    pub(super) fn send(&mut self, cx: &mut Session<'_>, now: Timestamp) {
        while cx.is_writable() {
            let Some(frame) = self.peer.poll_frame(now) else { return };
            match cx.send(frame) {
                Ok(accepted) => {
                    if let Some(calls) = &mut self.calls {
                        calls.accepted = Some(accepted.seq);
                    }
                    self.peer.frame_sent(accepted);
                }
                Err(error) => self.peer.frame_refused(error),
            }
        }
        if self.peer.wants_write() {
            cx.notify_flushed();
        }
    }

    /// Takes the reports of the machine: starts handlers, and tells callers. Returns whether there were any.
    pub(super) fn take_events<M: Fn(Inbound) -> F>(&mut self, mailbox: &Mailbox, answer: &M) -> bool {
        if self.peer.is_leaving() {
            self.membership = None; // before callers learn of calls that were refused for it
        }
        let Some(calls) = &mut self.calls else { return false };
        let taken = calls.take_events(&mut self.peer, mailbox, answer);
        self.is_done |= taken.is_drained;
        taken.any
    }

    /// Compresses and decompresses bodies as far as the turn allows, but for `least` bytes of work in any
    /// case. Returns whether anything was done.
    #[inline]
    pub(super) fn work(&mut self, cx: &mut Session<'_>, least: u64) -> bool {
        self.peer.has_work() && self.work_on_bodies(cx, least)
    }

    #[cold]
    fn work_on_bodies(&mut self, cx: &mut Session<'_>, least: u64) -> bool {
        let most = cx.work_left().max(least);
        let work = if most > 0 { lend_coders(|coders| self.peer.work(most, coders)) } else { 0 };
        cx.count_work(work, self.peer.has_work());
        most > 0
    }

    /// Polls the handlers that were woken.
    pub(super) fn run(&mut self, mailbox: &Mailbox, task: &Waker) {
        if let Some(calls) = &mut self.calls {
            calls.run(&mut self.peer, mailbox, task);
        }
    }

    /// Gives the machine what was posted, and returns the number of callers.
    pub(super) fn take_posted(&mut self, now: Timestamp, mailbox: &Mailbox, task: &Waker) -> usize {
        let Some(calls) = &mut self.calls else { return 0 };
        mailbox.take_posted(&mut calls.desk, &mut self.peer, now, task)
    }

    /// Gives up the memory of calls. Only without calls.
    pub(super) fn trim(&mut self, mailbox: &Mailbox) {
        if self.calls.as_ref().is_some_and(|calls| calls.is_idle()) {
            self.calls = None;
            mailbox.trim();
        }
    }
}
