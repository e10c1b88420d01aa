//! [`Probe`]: the codec of the load. It makes payloads while encoding and checks them while decoding.

use std::sync::Arc;

use getty_driver::core::codec::{Decoded, Decoder, Encoder, Sink, Source};

/// Size of the length field in bytes.
const HEADER: usize = 4;

/// Number of offsets in the pattern at which a payload can begin.
const SHIFTS: usize = 256;

/// The codec of one connection. Each payload depends on the connection and on the message's number, so that a
/// wrong echo is noticed. In a stream, a 4-byte length comes before it.
///
/// A payload is an 8-byte stamp and a part of the pattern chosen by the stamp. Making one costs a copy,
/// checking one a comparison.
///
/// Over a transport that may lose messages, the stamp of an echo identifies its message. A payload below 8
/// bytes holds only the stamp's last digits, and an echo is matched to the latest message with these digits.
/// With 1-byte payloads, a loss of 256 messages in a row therefore goes unnoticed, and so does a changed
/// stamp.
#[derive(Debug)]
pub struct Probe {
    framing: Framing,
    pattern: Arc<[u8]>,
    size: usize,
    key: u64,
    sent: u64,
    received: u64,
}

/// The way the end of a payload is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A length prefix.
    Length,
    /// The transport, which preserves message boundaries.
    Transport,
    /// The transport, which may also lose, duplicate and reorder messages.
    Datagram,
}

impl Framing {
    /// Bytes added to each payload.
    pub fn overhead(self) -> usize {
        match self {
            Framing::Length => HEADER,
            Framing::Transport | Framing::Datagram => 0,
        }
    }
}

/// A received echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The number of the message, or `None` if it was never sent.
    pub number: Option<u64>,
    pub intact: bool,
}

/// The error for an echo of a different size than the message sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongSize {
    sent: usize,
    received: usize,
}

impl std::fmt::Display for WrongSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WrongSize { sent, received } = self;
        write!(f, "sent a message of {sent} bytes, received an echo of {received} bytes")
    }
}

impl std::error::Error for WrongSize {}

impl Probe {
    /// Makes pseudo-random bytes for payloads of `size` bytes.
    pub fn pattern(size: usize) -> Arc<[u8]> {
        (0..(size + SHIFTS) as u64).map(|i| mix(i).to_le_bytes()[0]).collect()
    }

    /// Makes the codec of one connection. `pattern` is from [`pattern`](Self::pattern) for the same `size`.
    pub fn new(framing: Framing, pattern: Arc<[u8]>, size: usize, connection: u64) -> Self {
        Probe { framing, pattern, size, key: mix(connection), sent: 0, received: 0 }
    }

    /// Makes the payload of message `number`.
    fn payload(&self, number: u64) -> ([u8; 8], usize, &[u8]) {
        // Datagram stamps are consecutive, to carry the number; others have no structure that compression
        // could use.
        let spread = if self.framing == Framing::Datagram { number } else { mix(number) };
        let stamp = self.key.wrapping_add(spread);
        let stamped = self.size.min(8);
        let shift = (stamp % SHIFTS as u64) as usize;
        (stamp.to_le_bytes(), stamped, &self.pattern[shift..][..self.size - stamped])
    }

    /// Whether `payload`, which has the right size, is the echo of message `number`.
    fn is_intact(&self, number: u64, payload: &[u8]) -> bool {
        let (stamp, stamped, rest) = self.payload(number);
        payload[..stamped] == stamp[..stamped] && payload[stamped..] == *rest
    }

    /// The latest message whose number has the digits in `payload`.
    fn number(&self, payload: &[u8]) -> Option<u64> {
        let latest = self.sent.checked_sub(1)?;
        let known = payload.len().min(8);
        let mut stamp = [0; 8];
        stamp[..known].copy_from_slice(&payload[..known]);
        let age = latest.wrapping_sub(u64::from_le_bytes(stamp).wrapping_sub(self.key));
        latest.checked_sub(age & u64::MAX >> (64 - 8 * known))
    }

    /// Checks a received datagram.
    fn datagram(&self, payload: &[u8]) -> Echo {
        let number = self.number(payload).filter(|_| payload.len() == self.size);
        Echo { number, intact: number.is_some_and(|number| self.is_intact(number, payload)) }
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
            Framing::Datagram => {
                let echo = self.datagram(src);
                src.advance(src.len());
                return Ok(Decoded::Frame(echo));
            }
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
        let number = self.received;
        let intact = self.is_intact(number, payload);
        self.received += 1;
        src.advance(self.framing.overhead() + self.size);
        Ok(Decoded::Frame(Echo { number: Some(number), intact }))
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
        let echo = Echo { number: Some(0), intact: true };
        assert_eq!(new().decode(&mut Source::new(&mut sent)), Ok(Decoded::Frame(echo)));
    }

    #[test]
    fn an_echo_of_another_size_is_an_error() {
        for (framing, wire) in [(Framing::Length, &[0, 0, 0, 5][..]), (Framing::Transport, b"12345")] {
            let mut probe = Probe::new(framing, Probe::pattern(4), 4, 0);
            let error = probe.decode(&mut Source::new(&mut wire.into())).unwrap_err();
            assert_eq!(error.to_string(), "sent a message of 4 bytes, received an echo of 5 bytes");
        }
    }

    #[test]
    fn datagrams_tell_their_numbers() {
        for size in [1, 2, 7, 8, 9, 64] {
            let pattern = Probe::pattern(size);
            let new = |connection| Probe::new(Framing::Datagram, pattern.clone(), size, connection);
            let mut probe = new(3);
            let datagrams: Vec<BytesMut> = (0..600).map(|_| wire(&mut probe, 1)).collect();
            let echo = |probe: &Probe, bytes: &[u8]| probe.datagram(bytes);
            // Of the numbers with the same digits, the latest is assumed.
            let matched = |number: u64| if size == 1 { number + (599 - number) / 256 * 256 } else { number };
            for number in [0, 1, 255, 256, 598, 599] {
                let expected = Echo { number: Some(matched(number)), intact: true };
                assert_eq!(echo(&probe, &datagrams[number as usize]), expected, "{size}");
            }
            assert!(!echo(&probe, &[0; 65]).intact, "another size");
            assert_eq!(
                echo(&new(3), &datagrams[0]),
                Echo { number: None, intact: false },
                "nothing was sent"
            );
            if size >= 8 {
                let others = wire(&mut new(4), 1);
                assert_eq!(echo(&probe, &others), Echo { number: None, intact: false });
                let unsent = wire(&mut probe, 1);
                let behind = Probe { sent: 600, ..new(3) };
                assert_eq!(echo(&behind, &unsent), Echo { number: None, intact: false });
            }
            if size > 8 {
                let mut changed = datagrams[7].clone();
                changed[8] ^= 1;
                assert_eq!(echo(&probe, &changed), Echo { number: Some(7), intact: false });
            }
        }
    }
}
