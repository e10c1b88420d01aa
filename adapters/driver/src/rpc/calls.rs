//! [`Calls`]: the calls of an open RPC session, and their handlers.

use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use getty_core::rpc::{CallId, Cancelled, Code, Coding, Event, Peer, Request, Status};
use getty_core::{Seq, Timestamp};

use crate::rpc::call::Connection;
use crate::rpc::desk::{Desk, News};
use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::extensions::Extensions;
use crate::rpc::handlers::{Ended, Handlers, Started};
use crate::rpc::mailbox::Mailbox;

/// The calls of an open session, and the handlers of those of the peer.
pub(super) struct Calls<F> {
    pub(super) connection: Arc<Connection>,
    handlers: Handlers<F>,
    /// The handler of each call of the peer, by the slot of the call.
    by_call: Vec<Option<(CallId, u32)>>,
    pub(super) desk: Desk,
    news: Vec<(CallId, News)>,
    /// The waker that the mailbox has.
    pub(super) task: Option<Waker>,
    /// The frame that the session has accepted last.
    pub(super) accepted: Option<Seq>,
}

/// The reports that were taken.
pub(super) struct Taken {
    pub(super) any: bool,
    /// Both sides have gone away, and no call is open.
    pub(super) is_drained: bool,
}

impl<F: Future<Output = Response>> Calls<F> {
    pub(super) fn new(connection: Connection) -> Self {
        let connection = Arc::new(connection);
        Calls {
            handlers: Handlers::new(connection.clone()),
            connection,
            by_call: Vec::new(),
            desk: Desk::new(Timestamp::ORIGIN),
            news: Vec::new(),
            task: None,
            accepted: None,
        }
    }

    /// Takes the reports of the machine: starts handlers, and tells callers.
    pub(super) fn take_events<M: Fn(Inbound) -> F>(
        &mut self,
        peer: &mut Peer,
        mailbox: &Mailbox,
        answer: &M,
    ) -> Taken {
        let mut taken = Taken { any: false, is_drained: false };
        while let Some(event) = peer.poll_event() {
            taken.any = true;
            match event {
                Event::Request(id, request) => self.start(peer, mailbox, answer, id, request),
                Event::Ended(id, result) => self.news.push((id, News::Ended(result))),
                Event::Item(id, item) => self.news.push((id, News::Item(item))),
                Event::End(id) => self.news.push((id, News::End)),
                Event::Room(id) => self.news.push((id, News::Room)),
                Event::Cancelled(id, why) => self.cancel(peer, mailbox, id, why),
                Event::Drained => taken.is_drained = true,
                _ => {}
            }
        }
        if !self.news.is_empty() {
            mailbox.deliver(&mut self.desk, peer, &mut self.news);
        }
        taken
    }

    fn start<M: Fn(Inbound) -> F>(
        &mut self,
        peer: &mut Peer,
        mailbox: &Mailbox,
        answer: &M,
        id: CallId,
        request: Request,
    ) {
        let streams = request.more.then(|| mailbox.open_stream(id, &mut self.desk));
        let deadline = peer.deadline(id);
        let (items, extensions) = (Coding::Plain, Extensions::default());
        mailbox.hold();
        let started = self
            .handlers
            .start(id, |seat| answer(Inbound { request, id, seat, deadline, streams, items, extensions }));
        match started {
            Started::Ended(ended) => self.respond(peer, mailbox, id, ended),
            Started::Runs(slot) => {
                if self.by_call.len() <= id.slot() {
                    self.by_call.resize(id.slot() + 1, None);
                }
                self.by_call[id.slot()] = Some((id, slot));
                if let Some(task) = &self.task {
                    self.handlers.arm(task);
                }
            }
        }
    }

    /// Answers a call whose handler has ended.
    fn respond(&mut self, peer: &mut Peer, mailbox: &Mailbox, id: CallId, ended: Ended<Response>) {
        // The call of a handler that ran on has its answer, and this one goes nowhere.
        let answer = ended.unwrap_or_else(|()| Err(Status::new(Code::Internal, "the handler panicked")));
        let answer = mailbox.with_reply_metadata(id, answer);
        mailbox.respond(&mut self.desk, peer, id, answer);
    }

    /// A call of the peer is over before its handler has ended, which may run on.
    fn cancel(&mut self, peer: &mut Peer, mailbox: &Mailbox, id: CallId, why: Cancelled) {
        let late = why == Cancelled::Deadline;
        let code = if late { Code::DeadlineExceeded } else { Code::Cancelled };
        mailbox.cancel(&mut self.desk, id, Status::new(code, "the call is over"));
        let slot = self.by_call.get(id.slot()).copied().flatten().filter(|(known, _)| *known == id);
        if slot.is_none_or(|(_, slot)| self.handlers.cancel(slot, late)) {
            self.leave(id);
            mailbox.release(&mut self.desk, id);
            peer.release(id);
        }
    }

    /// Takes the handler of a call, which has ended, from the table.
    fn leave(&mut self, id: CallId) {
        if let Some(place) = self.by_call.get_mut(id.slot()) {
            place.take_if(|(known, _)| *known == id);
        }
    }

    /// Polls the handlers that were woken.
    pub(super) fn run(&mut self, peer: &mut Peer, mailbox: &Mailbox, task: &Waker) {
        if !self.handlers.collect(task) {
            return;
        }
        mailbox.hold();
        let due = self.handlers.take_due();
        for &slot in &due {
            let Some((id, ended)) = self.handlers.poll(slot) else { continue };
            self.leave(id);
            self.respond(peer, mailbox, id, ended);
        }
        self.handlers.put_back(due);
    }

    /// Whether no handler runs.
    pub(super) fn is_idle(&self) -> bool {
        self.handlers.len() == 0
    }

    /// Drops all handlers.
    pub(super) fn stop_all(&mut self) {
        for place in mem::take(&mut self.by_call).into_iter().flatten() {
            self.handlers.stop(place.1);
        }
    }
}
