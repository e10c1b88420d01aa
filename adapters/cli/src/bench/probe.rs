//! [`Probe`]: the codec of the load, which makes payloads as it encodes and checks them as it decodes.

use std::sync::Arc;

use getty_driver::core::codec::{Decoded, Decoder, Encoder, Sink, Source};

/// Bytes of the length field.
const HEADER: usize = 4;

/// A payload may begin at so many places of the pattern.
const SHIFTS: usize = 256;

/// Messages of one connection: a payload that depends on the connection and on the message's number, so that an echo
/// of anything else is noticed. In a stream, a length of 4 bytes comes before it.
///
/// A payload is a stamp of 8 bytes and a stretch of the pattern that the stamp chooses. Both cost a copy to
/// make and a comparison to check.
#[derive(Debug)]
pub struct Probe {
    framing: Framing,
    pattern: Arc<[u8]>,
    size: usize,
    key: u64,
    sent: u64,
    received: u64,
}

/// How the end of a payload is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By a length before it.
    Length,
    /// By the transport, which keeps messages apart.
    Transport,
}

impl Framing {
    /// Bytes that come to the payload.
    pub fn overhead(self) -> usize {
        match self {
            Framing::Length => HEADER,
            Framing::Transport => 0,
        }
    }
}

/// A message that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    pub intact: bool,
}

/// An echo is of another size than what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongSize {
    sent: usize,
    received: usize,
}

impl std::fmt::Display for WrongSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WrongSize { sent, received } = self;
        write!(f, "a message of {sent} bytes came back with {received} bytes")
    }
}

impl std::error::Error for WrongSize {}

impl Probe {
    /// Pseudo-random bytes for payloads of `size` bytes.
    pub fn pattern(size: usize) -> Arc<[u8]> {
        (0..(size + SHIFTS) as u64).map(|i| mix(i).to_le_bytes()[0]).collect()
    }

    /// The codec of one connection of many, with the [`pattern`](Self::pattern) for `size`.
    pub fn new(framing: Framing, pattern: Arc<[u8]>, size: usize, connection: u64) -> Self {
        Probe { framing, pattern, size, key: mix(connection), sent: 0, received: 0 }
    }

    /// The payload of message `number`.
    fn payload(&self, number: u64) -> ([u8; 8], usize, &[u8]) {
        let stamp = self.key.wrapping_add(mix(number));
        let stamped = self.size.min(8);
        let shift = (stamp % SHIFTS as u64) as usize;
        (stamp.to_le_bytes(), stamped, &self.pattern[shift..][..self.size - stamped])
    }
}

impl Encoder<()> for Probe {
    type Error = std::convert::Infallible;

    fn encode(&mut self, (): (), dst: &mut Sink<'_>) -> Result<(), Self::Error> {
        let (stamp, stamped, rest) = self.payload(self.sent);
        if self.framing == Framing::Length {
            dst.put_slice(&(self.size as u32).to_be_bytes());
        }
        dst.put_slice(&stamp[..stamped]);
        dst.put_slice(rest);
        self.sent += 1;
        Ok(())
    }

    fn encoded_len(&self, (): &()) -> Option<usize> {
        Some(self.framing.overhead() + self.size)
    }
}

impl Decoder for Probe {
    type Item = Echo;
    type Error = WrongSize;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Echo>, WrongSize> {
        let (payload, received) = match self.framing {
            Framing::Transport => (&**src, src.len()),
            Framing::Length => match src.split_first_chunk::<HEADER>() {
                Some((header, payload)) => (payload, u32::from_be_bytes(*header) as usize),
                None => return Ok(Decoded::Need(HEADER - src.len())),
            },
        };
        if received != self.size {
            return Err(WrongSize { sent: self.size, received });
        }
        let Some(payload) = payload.get(..self.size) else {
            return Ok(Decoded::Need(self.size - payload.len()));
        };
        let (stamp, stamped, rest) = self.payload(self.received);
        let intact = payload[..stamped] == stamp[..stamped] && payload[stamped..] == *rest;
        self.received += 1;
        src.advance(self.framing.overhead() + self.size);
        Ok(Decoded::Frame(Echo { intact }))
    }
}

/// Spreads a number over 64 bits (splitmix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn wire(probe: &mut Probe, messages: usize) -> BytesMut {
        let mut wire = BytesMut::new();
        for _ in 0..messages {
            probe.encode((), &mut Sink::new(&mut wire)).unwrap();
        }
        wire
    }

    fn decode(probe: &mut Probe, mut wire: BytesMut) -> Vec<bool> {
        let mut src = Source::new(&mut wire);
        std::iter::from_fn(|| match probe.decode(&mut src).unwrap() {
            Decoded::Frame(echo) => Some(echo.intact),
            Decoded::Need(_) => None,
        })
        .collect()
    }

    #[test]
    fn what_comes_back_is_intact_and_nothing_else_is() {
        for size in [1, 7, 8, 9, 64, 5000] {
            let pattern = Probe::pattern(size);
            let new = |connection| Probe::new(Framing::Length, pattern.clone(), size, connection);
            let sent = wire(&mut new(3), 3);
            assert_eq!(sent.len(), 3 * (HEADER + size));
            assert_eq!(decode(&mut new(3), sent.clone()), [true; 3], "{size}");
            assert_eq!(decode(&mut new(4), sent.clone()), [false; 3], "another connection's, {size}");
            let stale = sent.clone().split_off(HEADER + size);
            assert_eq!(decode(&mut new(3), stale), [false; 2], "not the next one, {size}");
            for at in HEADER..HEADER + size {
                let mut changed = sent.clone();
                changed[at] ^= 0x80;
                assert_eq!(decode(&mut new(3), changed), [false, true, true], "byte {at} of {size}");
            }
        }
    }

    #[test]
    fn a_transport_that_keeps_messages_apart_needs_no_length() {
        let pattern = Probe::pattern(9);
        let new = || Probe::new(Framing::Transport, pattern.clone(), 9, 3);
        let mut sent = wire(&mut new(), 1);
        let framed = wire(&mut Probe::new(Framing::Length, pattern.clone(), 9, 3), 1);
        assert_eq!(sent, framed[HEADER..]);
        assert_eq!(new().decode(&mut Source::new(&mut sent)), Ok(Decoded::Frame(Echo { intact: true })));
    }

    #[test]
    fn an_echo_of_another_size_is_an_error() {
        for (framing, wire) in [(Framing::Length, &[0, 0, 0, 5][..]), (Framing::Transport, b"12345")] {
            let mut probe = Probe::new(framing, Probe::pattern(4), 4, 0);
            let error = probe.decode(&mut Source::new(&mut wire.into())).unwrap_err();
            assert_eq!(error.to_string(), "a message of 4 bytes came back with 5 bytes");
        }
    }
}
