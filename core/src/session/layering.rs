//! A layer below the protocol: how a session passes bytes through it, opens with it and ends with it.

use std::sync::Arc;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use super::phase::Phase;
use super::state::{READ_STEP, State};
use crate::close::CloseReason;
use crate::deadline::Deadline;
use crate::layer::{Layer, LayerError, MAX_SEALED, Plain, TooMuchSealed};
use crate::memory::READ_ARENA;
use crate::time::Timestamp;

/// Bytes sealed at a time: about one or two writes of a socket.
const BATCH: usize = 64 * 1024;

/// Room for unsealed bytes that are not decoded. A layer that unseals more has to wait.
const PLAIN_ROOM: usize = 128 * 1024;

/// Bytes of a layer's overhead that count as one frame. A TLS key update takes 27 bytes, and as much time as
/// dozens of frames.
const OVERHEAD_OF_FRAME: usize = 8;

/// Room for one read while most of the input is overhead. A turn's budget is checked between reads.
const COSTLY_READ: usize = 16 * 1024;

/// The state of the layer between protocol and wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerState {
    None,
    /// Its handshake is under way.
    Opening,
    Open {
        /// Most of the input it consumed last was overhead.
        costly: bool,
    },
    /// It has failed, and nothing passes through it any longer.
    Failed,
}

impl State {
    /// Starts the session's layer, which begins with a handshake if `is_handshaking`.
    pub(super) fn begin_layer(&mut self, is_handshaking: bool) {
        if !is_handshaking {
            self.layer = LayerState::Open { costly: false };
        } else {
            self.layer = LayerState::Opening;
            self.layer_wants_write = true;
            self.deadlines.set(Deadline::Handshake, self.now + self.config.handshake_timeout());
        }
    }

    /// Opens the session unless a handshake is left, the layer's or the protocol's.
    pub(super) fn open_without_handshake(&mut self) {
        let layer_is_ready = matches!(self.layer, LayerState::None | LayerState::Open { .. });
        if self.status.phase == Phase::Opening && layer_is_ready && !self.opens {
            self.open();
        }
    }

    /// Bytes that wait for the transport.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        if self.has_layer() { self.queued_with_layer() } else { self.outbox.queued() }
    }

    fn queued_with_layer(&self) -> usize {
        let (plain, sealed) =
            self.buffers.as_ref().map_or((0, 0), |b| (b.layer.sealed_plain, b.layer.wire.sealed.len()));
        (self.outbox.queued() - plain.min(self.outbox.queued())) + sealed
    }

    #[inline]
    pub(super) fn has_layer(&self) -> bool {
        self.layer != LayerState::None
    }

    /// Whether there is something to write.
    #[inline]
    pub(super) fn wants_write(&self) -> bool {
        if self.has_layer() { self.layer_wants_to_write() } else { !self.outbox.is_empty() }
    }

    fn layer_wants_to_write(&self) -> bool {
        match self.layer {
            LayerState::None => false,
            LayerState::Open { .. } => {
                self.layer_wants_write || !self.outbox.is_empty() || self.layer_ends && self.has_all_output()
            }
            LayerState::Opening | LayerState::Failed => self.layer_wants_write || self.layer_ends,
        }
    }

    /// The layer's bytes for the wire; `None` without a layer.
    #[inline]
    pub(super) fn layer_sealed(&self) -> Option<&[u8]> {
        self.has_layer().then(|| self.sealed())
    }

    pub(super) fn sealed(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |b| b.layer.wire.sealed.as_slice())
    }

    /// The buffer for bytes from the wire.
    pub(super) fn layer_recv_buf(&mut self) -> Limit<&mut BytesMut> {
        let most = if self.layer == (LayerState::Open { costly: true }) { COSTLY_READ } else { READ_ARENA };
        let room = if self.lent { most } else { READ_STEP };
        let received = &mut self.buffers.get_or_insert_default().layer.wire.received;
        self.inbox.mark = received.len();
        received.reserve(room.saturating_sub(received.len()).max(READ_STEP));
        let spare = received.capacity() - received.len();
        received.limit(spare.min(most))
    }

    /// Passes received bytes through the layer. The last `new` of them are new.
    pub(super) fn unseal(&mut self, layer: &mut dyn Layer, new: usize) {
        let keeps = self.keeps_input();
        let buffers = self.buffers.get_or_insert_default();
        let wire = &mut buffers.layer.wire;
        if matches!(self.layer, LayerState::None | LayerState::Failed) || self.status.phase >= Phase::Closed {
            wire.received.clear();
            return;
        }
        if self.status.read_ended {
            // Earlier bytes stay as they are: the layer may remember positions in them.
            wire.received.truncate(wire.received.len().saturating_sub(new));
            self.layer_wants_write = !wire.sealed.is_empty();
            return;
        }
        let before = buffers.layer.wire.received.len();
        let held = buffers.received.len();
        // A frame that is larger than the room comes in pieces that are worth a call.
        let missing = self.inbox.missing(held).clamp(READ_STEP, PLAIN_ROOM);
        let room = PLAIN_ROOM.saturating_sub(held).max(missing);
        let mut plain = Plain::new(keeps.then_some(&mut buffers.received), room);
        let result = layer.unseal(&mut buffers.layer.wire, &mut plain);
        self.layer_waits = plain.room() == 0;
        let (pieces, bytes) = plain.put();
        let used = before.saturating_sub(buffers.layer.wire.received.len());
        let overhead = used.saturating_sub(bytes);
        self.other_frames += pieces.max((overhead / OVERHEAD_OF_FRAME) as u64);
        if let LayerState::Open { costly } = &mut self.layer {
            *costly = overhead > used / 2;
        }
        let held = buffers.layer.wire.received.len();
        self.layer_wants_write = !buffers.layer.wire.sealed.is_empty();
        if self.layer == LayerState::Opening && !layer.is_handshaking() {
            self.layer = LayerState::Open { costly: false };
            self.open_without_handshake(); // the result below comes after the opening
        }
        match result {
            Err(error) => self.fail_layer(error),
            Ok(_) if held > MAX_SEALED && !self.layer_waits => {
                self.fail_layer(Arc::new(TooMuchSealed { held }))
            }
            // What follows stays as it is: the outer layer of a stack may remember places in it.
            Ok(true) => self.handle_eof(self.now),
            Ok(false) => {}
        }
    }

    /// Lets the layer continue after it had to wait for room.
    pub(super) fn unseal_more(&mut self, layer: &mut dyn Layer) {
        self.layer_waits = false;
        self.unseal(layer, 0);
        if !self.layer_waits && std::mem::take(&mut self.wire_ended) {
            self.handle_layer_eof(layer, self.now);
        }
    }

    /// Whether a part of one of the layer's records has come.
    pub(super) fn has_unopened(&self) -> bool {
        self.has_layer()
            && !self.status.read_ended
            && self.buffers.as_ref().is_some_and(|b| b.layer.wire.waiting() > 0)
    }

    /// Whether the layer holds nothing that it could unseal, and no part of a record.
    pub(super) fn layer_has_nothing(&self) -> bool {
        !self.layer_waits && self.buffers.as_ref().is_none_or(|b| b.layer.wire.waiting() == 0)
    }

    /// Sets the deadline of an incomplete record, as of a frame.
    pub(super) fn watch_unopened(&mut self) {
        let Some(buffers) = &self.buffers else { return };
        if buffers.layer.wire.waiting() > 0 && !self.status.read_ended {
            self.inbox.begin_partial(self.received.bytes, self.now);
            self.watch_partial();
        } else if buffers.received.is_empty() {
            self.inbox.end_partial();
        }
    }

    /// Handles the end of the transport.
    pub(super) fn handle_layer_eof(&mut self, layer: &mut dyn Layer, now: Timestamp) {
        self.advance_time(now);
        if self.layer_waits {
            self.wire_ended = true;
            return;
        }
        let counts = matches!(self.status.phase, Phase::Open | Phase::Draining) && !self.status.read_ended;
        match layer.handle_eof() {
            Err(error) if counts && matches!(self.layer, LayerState::Open { .. }) => {
                self.fail_layer(error);
                self.status.read_ended |= self.status.phase == Phase::Flushing; // nothing more will come
            }
            Err(error) if self.status.phase == Phase::Opening && self.layer == LayerState::Opening => {
                self.finish(CloseReason::Layer(error));
            }
            _ => self.handle_eof(now),
        }
    }

    /// Seals what waits, once everything sealed before is written.
    pub(super) fn seal(&mut self, layer: &mut dyn Layer) {
        if self.layer == LayerState::Opening && !self.layer_ends {
            self.unseal(layer, 0);
        }
        let is_open = matches!(self.layer, LayerState::Open { .. });
        if self.layer_ends && !is_open {
            // The handshake has no peer to close with yet, and no way to send the protocol's bytes.
            self.layer_ends = false;
            self.layer = LayerState::Failed;
            self.layer_wants_write = self.buffers.as_ref().is_some_and(|b| !b.layer.wire.sealed.is_empty());
            self.discard_messages(true);
        }
        let ends = self.layer_ends;
        if ends {
            self.buffers.get_or_insert_default();
        }
        let Some(buffers) = self.buffers.as_mut().filter(|b| is_open && b.layer.wire.sealed.is_empty())
        else {
            return;
        };
        let mut room = BATCH;
        while room > 0 && !buffers.segments.is_empty() {
            let chunk = buffers.segments.chunk();
            let n = chunk.len().min(room);
            if let Err(error) = layer.seal(&chunk[..n], &mut buffers.layer.wire) {
                self.layer_wants_write = !buffers.layer.wire.sealed.is_empty();
                return self.fail_layer(error);
            }
            buffers.segments.advance(n);
            buffers.layer.sealed_plain += n;
            room -= n;
        }
        self.layer_wants_write = !buffers.layer.wire.sealed.is_empty();
        let all_sealed = buffers.segments.is_empty();
        if ends && all_sealed && self.has_all_output() {
            self.end_layer(layer);
        }
    }

    fn end_layer(&mut self, layer: &mut dyn Layer) {
        let buffers = self.buffers.get_or_insert_default();
        layer.close(&mut buffers.layer.wire);
        self.layer_ends = false;
        self.layer_wants_write = !buffers.layer.wire.sealed.is_empty();
    }

    /// Counts `n` sealed bytes as taken by the transport.
    pub(super) fn layer_written(&mut self, n: usize) {
        let Some(buffers) = &mut self.buffers else { return };
        buffers.layer.wire.sealed.advance(n);
        buffers.layer.partly_written = true;
        if buffers.layer.wire.sealed.is_empty() {
            self.outbox.written(&mut buffers.sizes, buffers.layer.sealed_plain);
            buffers.layer.clear_sealed();
            self.layer_wants_write = false;
        }
    }

    /// Handles a failed layer. Messages already received are still delivered, and the layer's last bytes are
    /// written.
    fn fail_layer(&mut self, error: LayerError) {
        self.layer = LayerState::Failed;
        self.layer_ends = false;
        match self.status.phase {
            Phase::Open | Phase::Draining => {
                self.discard_messages(true);
                self.deliver_last(CloseReason::Layer(error));
                if self.status.phase < Phase::Closed {
                    self.deadlines.set(Deadline::Close, self.now + self.config.close_timeout());
                }
            }
            Phase::Opening => {
                self.reason = Some(Box::new(CloseReason::Layer(error)));
                self.discard_messages(true);
                self.deadlines.clear_all();
                self.deadlines.set(Deadline::Close, self.now + self.config.close_timeout());
                self.flush_layer();
            }
            // The reason of a close under way stays. Nothing more can be read or written.
            Phase::Flushing | Phase::HalfClosed => self.cut_short(CloseReason::Layer(error)),
            Phase::LastMessages | Phase::Closed | Phase::Ended => {}
        }
    }
}
