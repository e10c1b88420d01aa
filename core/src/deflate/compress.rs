//! [`Compressor`]: messages to DEFLATE data.

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, FlushCompress};

use super::TAIL;

/// The most that one call of the compressor can put out; what follows takes another call.
const MAX_ROOM: usize = 16 * 1024;

/// Added to the room that is guessed from the input, so that a small message takes one call even if it grows.
const SPARE_ROOM: usize = 128;

/// What an empty message is: the header of an empty block without compression, whose rest is the tail (RFC 7692
/// section 7.2.3.6).
const EMPTY_MESSAGE: u8 = 0x00;

/// The sending direction: compresses messages, or their fragments, one after another.
///
/// Without context takeover nothing is held between messages: 250 to 380 KB of every idle session are not
/// worth it. Resetting a compressor takes 1.6 µs. Making one takes 4 µs while the allocator has its memory at
/// hand, 14 to 44 µs in a server whose allocator returns some of it to the system in between, and 100 to 170
/// µs if all of it comes from the system each time. Compressing 1 KiB takes 2 to 8 µs more.
#[derive(Debug)]
pub(crate) struct Compressor {
    stream: Option<Compress>,
    no_context_takeover: bool,
    window_bits: u8,
    level: u8,
}

impl Compressor {
    /// `window_bits` is 8..=15, `level` 0..=9.
    pub(crate) fn new(no_context_takeover: bool, window_bits: u8, level: u8) -> Self {
        Compressor { stream: None, no_context_takeover, window_bits, level }
    }

    /// Appends `payload`, the next fragment of a message, compressed to `out`. `last` says that it ends the message.
    ///
    /// Every fragment is flushed: once it is received, all of it can be decompressed. One that is empty and not the
    /// last gives nothing.
    pub(crate) fn compress(&mut self, payload: &[u8], last: bool, out: &mut BytesMut) {
        if !payload.is_empty() {
            flush(self.stream(), payload, out);
            if last {
                debug_assert!(out.ends_with(&TAIL));
                out.truncate(out.len() - TAIL.len());
            }
        } else if last {
            out.put_u8(EMPTY_MESSAGE);
        }
        if last && self.no_context_takeover {
            self.stream = None;
        }
    }

    /// Begins anew, since what was compressed last is not sent: nothing may refer to it. That is legal between any two
    /// messages.
    pub(crate) fn restart(&mut self) {
        self.stream = None;
    }

    fn stream(&mut self) -> &mut Compress {
        self.stream.get_or_insert_with(|| {
            // zlib has no window of 8 bits. Its window of 9 does for one: it refers at most 512 - 262 bytes back,
            // as it keeps as many in store as the longest match and its look-ahead can take.
            let window_bits = self.window_bits.clamp(9, 15);
            Compress::new_with_window_bits(Compression::new(self.level.min(9).into()), false, window_bits)
        })
    }
}

/// Appends `payload` compressed, up to and including a sync flush.
fn flush(stream: &mut Compress, mut payload: &[u8], out: &mut BytesMut) {
    loop {
        let start = out.len();
        let room = (payload.len() / 2 + SPARE_ROOM).min(MAX_ROOM);
        out.resize(start + room, 0);
        let (total_in, total_out) = (stream.total_in(), stream.total_out());
        // It fails only with a state that is no compressor's.
        stream
            .compress(payload, &mut out[start..], FlushCompress::Sync)
            .expect("a compressor takes any data");
        let produced = (stream.total_out() - total_out) as usize;
        out.truncate(start + produced);
        payload = &payload[(stream.total_in() - total_in) as usize..];
        // With room left, there is no more to come.
        if payload.is_empty() && produced < room {
            return;
        }
    }
}
