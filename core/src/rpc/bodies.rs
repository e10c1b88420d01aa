//! Bodies that are compressed before they are sent, and decompressed before they are reported.
//!
//! One body of each direction at a time is at work, a piece in each step, and others of its direction wait
//! for it. The call keeps what it has until the other form of it is there, and goes on from its place: what
//! comes after it in its stream waits, and what ends the call ends this too.

#[cfg(feature = "deflate")]
use crate::rpc::compression::{Coders, Compressing, Decompressing};
use crate::rpc::event::Event;
#[cfg(feature = "deflate")]
use crate::rpc::event::{CallId, Cancelled};
use crate::rpc::frame::{Body, Coding};
use crate::rpc::peer::Peer;
use crate::rpc::slots::{Call, Content, Phase, Ring};
#[cfg(feature = "deflate")]
use crate::rpc::status::Executed;
use crate::rpc::status::Status;

/// The bodies at work. There are some while calls wait in one of the two rings.
#[cfg(feature = "deflate")]
#[derive(Debug, Default)]
pub(super) struct Bodies {
    sending: Option<Sending>,
    receiving: Option<Receiving>,
}

#[cfg(feature = "deflate")]
#[derive(Debug)]
struct Sending {
    call: CallId,
    body: Compressing,
}

#[cfg(feature = "deflate")]
#[derive(Debug)]
struct Receiving {
    call: CallId,
    body: Decompressing,
    /// Bytes counted for what has come out so far.
    held: usize,
}

/// The body of a call that is sent next.
fn outgoing(call: &mut Call) -> Option<&mut Body> {
    let item = call.streams.as_mut().and_then(|streams| streams.sending.front_mut());
    match (call.phase, &mut call.content, item) {
        (Phase::Waiting, Content::Request(request), _) => Some(&mut request.body),
        (_, _, Some(item)) => Some(item),
        (Phase::Answered { .. }, Content::Answer(Ok(reply)), None) => Some(&mut reply.body),
        _ => None,
    }
}

impl Peer {
    /// Reports the next body of a call once it is decompressed. Returns what is reported meanwhile.
    #[cold]
    pub(super) fn decompress_first(&mut self, slot: u32) -> Option<Event> {
        self.slots.push(Ring::Inflate, slot);
        #[cfg(feature = "deflate")]
        self.slots.bodies().get_or_insert_default();
        let id = self.slots.id(slot);
        let call = self.slots.at(slot);
        let has_room = std::mem::take(&mut call.due.room) && call.phase != Phase::Ended;
        has_room.then_some(Event::Room(id))
    }

    /// Sends the next body of a call once it is compressed. Returns false if it goes as it is: it is small,
    /// or the peer does not decompress.
    #[cold]
    pub(super) fn compress_first(&mut self, slot: u32) -> bool {
        let Some(body) = outgoing(self.slots.at(slot)) else { return false };
        if !self.theirs.deflate || !cfg!(feature = "deflate") || body.bytes.len() < Body::MIN_COMPRESSED {
            body.coding = Coding::Plain;
            return false;
        }
        self.slots.push(Ring::Deflate, slot);
        #[cfg(feature = "deflate")]
        self.slots.bodies().get_or_insert_default();
        true
    }
}

#[cfg(feature = "deflate")]
impl Peer {
    /// Whether bodies wait to be compressed or decompressed. [`work`](Self::work) does it; frames and events
    /// come of it.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.slots.has_bodies()
    }

    /// Compresses and decompresses bodies, a piece of up to 64 KiB after the other, until that was `most`
    /// bytes of work or nothing is left. Returns the work that was done, as
    /// [`Work::bytes`](crate::Work::bytes) counts it: bytes that come out of decompressing, and 16 times
    /// those that are compressed. One piece is done whatever `most` is, so that a body is done some time. A
    /// piece takes up to 3 ms.
    ///
    /// `coders` is lent to one connection after the other.
    pub fn work(&mut self, most: u64, coders: &mut Coders) -> u64 {
        if !self.has_work() {
            return 0;
        }
        let Some(mut bodies) = self.slots.bodies().take() else { return 0 };
        let mut done = 0;
        loop {
            let received = self.receive_piece(&mut bodies.receiving, coders);
            let sent = self.send_piece(&mut bodies.sending, coders);
            if received.is_none() && sent.is_none() {
                return done;
            }
            done += received.unwrap_or(0) + sent.unwrap_or(0);
            if done >= most.max(1) {
                break;
            }
        }
        let goes_on = bodies.receiving.is_some() || bodies.sending.is_some();
        if goes_on || self.slots.has(Ring::Inflate) || self.slots.has(Ring::Deflate) {
            *self.slots.bodies() = Some(bodies);
        }
        done
    }

    /// The connection has ended: what is at work is dropped. A call that can't report what it has received
    /// ends with a failure.
    pub(super) fn drop_bodies(&mut self, status: &Status) {
        if self.has_work() {
            let receiving = self.slots.bodies().take().and_then(|bodies| bodies.receiving);
            self.pending_bytes -= receiving.map_or(0, |job| job.held);
        }
        if !self.config.deflate() {
            return;
        }
        for slot in 0..self.slots.count() as u32 {
            if self.received(slot).is_some_and(|(body, _)| body.is_compressed()) {
                self.lose_received(slot, status.clone());
            }
        }
    }

    // Receiving.

    /// The received body of a call that is reported next, and whether it is an item.
    fn received(&mut self, slot: u32) -> Option<(&mut Body, bool)> {
        let call = self.slots.at(slot);
        let item = call.streams.as_mut().and_then(|streams| streams.received.front_mut());
        match (call.phase, &mut call.content, item) {
            (Phase::New, Content::Request(request), _) => Some((&mut request.body, false)),
            (Phase::Open | Phase::Running | Phase::Ended, _, Some(item)) => Some((item, true)),
            (Phase::Ended, Content::Answer(Ok(reply)), None) => Some((&mut reply.body, false)),
            _ => None,
        }
    }

    /// Goes on with the received body that is at work, or begins with the next one. `None`: there is none.
    fn receive_piece(&mut self, at_work: &mut Option<Receiving>, coders: &mut Coders) -> Option<u64> {
        let Some(mut job) = at_work.take() else {
            let slot = self.slots.pop(Ring::Inflate)?;
            *at_work = self.begin_receiving(slot, coders);
            return Some(0);
        };
        let is_of = |body: &Body| job.body.is_of(body);
        let slot = self.slots.slot(job.call);
        let slot = slot.filter(|slot| self.received(*slot).is_some_and(|(body, _)| is_of(body)));
        let Some(slot) = slot else {
            // The call has ended.
            self.pending_bytes -= job.held;
            job.body.end(coders);
            return Some(0);
        };
        let (work, step) = job.body.step();
        let out = match &step {
            Ok(Some(bytes)) => bytes.len(),
            _ => job.body.decompressed(),
        };
        let has_room = self.pending_bytes - job.held + out <= self.config.max_pending_bytes();
        match step {
            Ok(None) if has_room => {
                self.pending_bytes += out - job.held;
                job.held = out;
                *at_work = Some(job);
                return Some(work);
            }
            Ok(Some(bytes)) if has_room => self.set_received(slot, bytes.into()),
            Ok(_) => {
                let text = "the bodies on this connection hold too many bytes once decompressed";
                self.lose_received(slot, Status::resource_exhausted(text));
            }
            Err(error) => self.lose_received(slot, Status::new(error.code(), error.to_string())),
        }
        self.pending_bytes -= job.held;
        job.body.end(coders);
        Some(work)
    }

    fn begin_receiving(&mut self, slot: u32, coders: &mut Coders) -> Option<Receiving> {
        let (max_item, window) = (self.config.max_item(), self.config.window());
        let max_frame = self.config.max_frame() as usize;
        let (body, is_item) = self.received(slot).filter(|(body, _)| body.is_compressed())?;
        let (bytes, limit) = (body.bytes.clone(), if is_item { max_item.min(max_frame) } else { max_frame });
        let call = self.slots.at(slot);
        if is_item && call.streams.as_ref().is_some_and(|streams| streams.is_swollen(window)) {
            return None; // it is reported once others are taken
        }
        match Decompressing::begin(bytes, limit, coders) {
            Ok(body) => Some(Receiving { call: self.slots.id(slot), body, held: 0 }),
            Err(error) => {
                self.lose_received(slot, Status::new(error.code(), error.to_string()));
                None
            }
        }
    }

    /// Puts a decompressed body in the place of the compressed one. It counts with its full length.
    fn set_received(&mut self, slot: u32, bytes: Body) {
        let after = bytes.bytes.len();
        let Some((body, is_item)) = self.received(slot) else { return };
        let before = std::mem::replace(body, bytes).bytes.len();
        let call = self.slots.at(slot);
        match (&mut call.streams, call.phase) {
            (_, Phase::New) => {
                call.held = call.held - before + after;
                self.pending_bytes = self.pending_bytes - before + after;
            }
            (Some(streams), _) if is_item => {
                streams.swell(before, after);
                self.pending_bytes = self.pending_bytes - before + after;
            }
            _ => {}
        }
        self.slots.push(Ring::Events, slot);
    }

    /// Ends a call whose next received body can't be decompressed.
    fn lose_received(&mut self, slot: u32, status: Status) {
        let call = self.slots.at(slot);
        match call.phase {
            Phase::New => self.cut_short(slot, status, Cancelled::Fault),
            Phase::Ended => {
                if !matches!(call.content, Content::Answer(Err(_))) {
                    call.content = Content::Answer(Err(status.with_executed(Executed::Yes)));
                }
                if let Some(streams) = &mut call.streams {
                    self.pending_bytes -= streams.end_received();
                }
                self.slots.push(Ring::Events, slot);
            }
            _ => self.fail_call_with(slot, status),
        }
    }

    // Sending.

    /// Puts the requests that wait to be compressed back among those that wait to be sent.
    pub(super) fn requeue_requests(&mut self) {
        if !self.has_work() {
            return;
        }
        for slot in 0..self.slots.count() as u32 {
            if self.slots.at(slot).phase == Phase::Waiting {
                self.slots.push(Ring::Requests, slot);
            }
        }
    }

    /// Goes on with the body to send that is at work, or begins with the next one. `None`: there is none.
    fn send_piece(&mut self, at_work: &mut Option<Sending>, coders: &mut Coders) -> Option<u64> {
        let Some(mut job) = at_work.take() else {
            let slot = self.slots.pop(Ring::Deflate)?;
            let body = outgoing(self.slots.at(slot)).filter(|body| body.coding == Coding::Compressible);
            if let Some(body) = body.filter(|body| body.bytes.len() >= Body::MIN_COMPRESSED) {
                let body = Compressing::begin(body.bytes.clone(), coders);
                *at_work = Some(Sending { call: self.slots.id(slot), body });
            }
            return Some(0);
        };
        let is_of = |body: &mut Body| job.body.is_of(body);
        let slot = self.slots.slot(job.call);
        let Some(slot) = slot.filter(|slot| outgoing(self.slots.at(*slot)).is_some_and(is_of)) else {
            // The call has ended.
            job.body.end(coders);
            return Some(0);
        };
        let (work, done) = job.body.step();
        match done {
            Some(body) => {
                job.body.end(coders);
                self.set_outgoing(slot, body);
            }
            None => *at_work = Some(job),
        }
        Some(work)
    }

    /// Puts a compressed body in the place of the other, and lets it be sent.
    fn set_outgoing(&mut self, slot: u32, body: Body) {
        let call = self.slots.at(slot);
        let Some(place) = outgoing(call) else { return };
        let saved = place.bytes.len() - body.bytes.len();
        *place = body;
        match (&mut call.streams, call.phase) {
            (_, Phase::Waiting) => {
                call.bytes -= saved;
                self.waiting_bytes -= saved;
                self.slots.push(Ring::Requests, slot);
            }
            (Some(streams), _) if !streams.sending.is_empty() => {
                streams.shrink(saved);
                if streams.take_room() {
                    call.due.room = true;
                    self.slots.push(Ring::Events, slot);
                }
                self.slots.push(Ring::Items, slot);
            }
            _ => {
                call.bytes -= saved;
                self.answer_bytes -= saved;
                self.slots.push(Ring::Answers, slot);
            }
        }
    }
}

/// Nothing: there is no compression without the feature `deflate`.
#[cfg(not(feature = "deflate"))]
#[derive(Debug, Default)]
pub struct Coders(());

/// Without the feature `deflate` bodies are never compressed: there is nothing to do.
#[cfg(not(feature = "deflate"))]
impl Peer {
    /// Whether bodies wait to be compressed or decompressed: never, without the feature `deflate`.
    #[inline]
    pub fn has_work(&self) -> bool {
        false
    }

    /// Does nothing, without the feature `deflate`.
    pub fn work(&mut self, _most: u64, _coders: &mut Coders) -> u64 {
        0
    }

    pub(super) fn drop_bodies(&mut self, _status: &Status) {}

    pub(super) fn requeue_requests(&mut self) {}
}
