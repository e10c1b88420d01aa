//! Frames made and read by code independent of getty's, after RFC 6455 section 5.

use std::str;

/// A frame, valid or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    /// The masking key, if it is masked.
    pub mask: Option<[u8; 4]>,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
    /// The encoding of the length.
    pub form: Form,
}

/// The encoding of a length, RFC 6455 section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As few bytes as possible, as required.
    Shortest,
    /// Two bytes, truncated if necessary.
    Two,
    /// Eight bytes.
    Eight,
}

/// A continuation of a message. This and the following are the opcodes of RFC 6455 section 11.8.
pub const CONTINUATION: u8 = 0;
/// A text message, or its first frame.
pub const TEXT: u8 = 1;
/// A binary message, or its first frame.
pub const BINARY: u8 = 2;
/// The last frame of an endpoint.
pub const CLOSE: u8 = 8;
/// A ping, to be answered.
pub const PING: u8 = 9;
/// The answer to a ping.
pub const PONG: u8 = 10;

/// Set in [`Frame::first`] of the last frame of a message.
pub const FIN: u8 = 0x80;

/// Set in [`Frame::first`] of the first frame of a compressed message, RFC 7692 section 6.
pub const RSV1: u8 = 0x40;

impl Frame {
    /// Makes a frame of `opcode` with a complete message.
    pub fn new(opcode: u8, mask: Option<[u8; 4]>, payload: impl Into<Vec<u8>>) -> Self {
        Frame { first: FIN | opcode, mask, payload: payload.into(), form: Form::Shortest }
    }

    /// The opcode.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Whether it is the last frame of its message.
    pub fn fin(&self) -> bool {
        self.first & FIN != 0
    }

    /// Appends it to `wire`.
    pub fn write(&self, wire: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let len = self.payload.len();
        wire.push(self.first);
        match self.form {
            Form::Shortest if len < 126 => wire.push(masked | len as u8),
            Form::Shortest if len > 0xffff => {
                wire.push(masked | 127);
                wire.extend((len as u64).to_be_bytes());
            }
            Form::Shortest | Form::Two => {
                wire.push(masked | 126);
                wire.extend((len as u16).to_be_bytes());
            }
            Form::Eight => {
                wire.push(masked | 127);
                wire.extend((len as u64).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        wire.extend(self.mask.iter().flatten());
        wire.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

/// Reads one frame from the front of `wire`; `None` if it is incomplete.
pub fn read(wire: &mut &[u8]) -> Option<Frame> {
    let mut rest = *wire;
    let [first, second] = take::<2>(&mut rest)?;
    let (len, form) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(take(&mut rest)?)), Form::Two),
        127 => (u64::from_be_bytes(take(&mut rest)?), Form::Eight),
        len => (u64::from(len), Form::Shortest),
    };
    let shortest = match form {
        Form::Shortest => true,
        Form::Two => len > 125,
        Form::Eight => len > 0xffff,
    };
    let mask = if second & 0x80 != 0 { Some(take::<4>(&mut rest)?) } else { None };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let keys = mask.unwrap_or_default().into_iter().cycle();
    let payload = payload.iter().zip(keys).map(|(byte, mask)| byte ^ mask).collect();
    *wire = rest;
    Some(Frame { first, mask, payload, form: if shortest { Form::Shortest } else { form } })
}

fn take<const N: usize>(wire: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = wire.split_first_chunk::<N>()?;
    *wire = rest;
    Some(*taken)
}

/// An endpoint's output, which is valid.
#[derive(Debug, Default)]
pub struct Sent {
    /// The messages: opcode, whether they are compressed, payload.
    pub messages: Vec<(u8, bool, Vec<u8>)>,
    /// The payloads of pings.
    pub pings: Vec<Vec<u8>>,
    /// The payloads of pongs.
    pub pongs: Vec<Vec<u8>>,
    /// The payload of the close frame.
    pub close: Option<Vec<u8>>,
    /// The number of bytes of an incomplete last frame.
    pub cut_off: usize,
}

/// Reads an endpoint's output, whose last frame may be incomplete.
///
/// # Panics
/// If it violates what RFC 6455 demands of a client (`masked`) or a server. With `deflate`, messages may be
/// compressed.
pub fn check(mut wire: &[u8], masked: bool, deflate: bool) -> Sent {
    let mut sent = Sent::default();
    let mut open = false;
    while let Some(frame) = read(&mut wire) {
        assert!(sent.close.is_none(), "{frame:?} after the close frame");
        assert_eq!(frame.mask.is_some(), masked, "{frame:?}");
        assert_eq!(frame.form, Form::Shortest, "the length is too long: {frame:?}");
        let data = matches!(frame.opcode(), TEXT | BINARY);
        let rsv = frame.first & 0x70;
        assert!(rsv == 0 || deflate && data && rsv == RSV1, "reserved bits: {frame:?}");
        if frame.opcode() & 8 != 0 {
            assert!(frame.fin() && frame.payload.len() <= 125, "{frame:?}");
        }
        match frame.opcode() {
            CONTINUATION => assert!(open, "nothing to continue: {frame:?}"),
            TEXT | BINARY => assert!(!open, "interleaved: {frame:?}"),
            _ => {}
        }
        let fin = frame.fin();
        match frame.opcode() {
            CONTINUATION => {
                open = !fin;
                let message = sent.messages.last_mut().expect("there is an open one");
                message.2.extend(frame.payload);
            }
            opcode @ (TEXT | BINARY) => {
                open = !fin;
                sent.messages.push((opcode, rsv != 0, frame.payload));
            }
            PING => sent.pings.push(frame.payload),
            PONG => sent.pongs.push(frame.payload),
            CLOSE => {
                check_close(&frame.payload);
                sent.close = Some(frame.payload);
            }
            opcode => panic!("opcode {opcode} is reserved"),
        }
    }
    if open {
        sent.messages.pop();
    }
    for (opcode, compressed, payload) in &sent.messages {
        assert!(*opcode != TEXT || *compressed || str::from_utf8(payload).is_ok(), "{payload:?}");
    }
    sent.cut_off = wire.len();
    sent
}

fn check_close(payload: &[u8]) {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return assert!(payload.is_empty(), "a close frame of one byte");
    };
    let code = u16::from_be_bytes(*code);
    assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999), "code {code}");
    assert!(str::from_utf8(reason).is_ok(), "{reason:?}");
}

/// Makes frames from an endpoint's peer, most of them valid, from any bytes in `data`.
///
/// Each frame takes three bytes: its kind, its size, and its error (usually none).
pub fn spell(data: &[u8], masked: bool) -> Vec<u8> {
    let (mut wire, mut open) = (Vec::new(), false);
    for (n, spelled) in data.chunks_exact(3).enumerate() {
        let &[what, size, wrong] = spelled else { continue };
        let frame = frame(what, size, n as u8, &mut open, masked);
        let from = wire.len();
        mistake(frame, wrong).write(&mut wire);
        match wrong {
            0xe0..=0xe7 => wire.truncate(wire.len() - 1),
            0xe8..=0xef => wire.push(wrong),
            0xf0..=0xff => {
                let at = from + usize::from(what) % (wire.len() - from);
                wire[at] ^= 1 << (wrong & 7);
            }
            _ => {}
        }
    }
    wire
}

const TEXTS: [&str; 6] = ["", "plain", "é", "€uro", "a😀b", "\u{10ffff}\u{7ff}\u{800}"];

fn frame(what: u8, size: u8, n: u8, open: &mut bool, masked: bool) -> Frame {
    let mask = masked.then_some([n, what, size, 0x5a]);
    let len = match size {
        0..=139 => usize::from(size),
        140..=235 => usize::from(size) * 8 - 1000, // 120 to 880
        236..=239 => usize::from(size) + 762,      // 998 to 1001
        _ => (usize::from(size) - 238) * 120,
    };
    let text = || TEXTS[usize::from(size) % TEXTS.len()].repeat(usize::from(what >> 4) + 1).into_bytes();
    let bytes = || vec![what ^ n; len];
    let (opcode, fin, payload) = match (what % 16, *open) {
        (0..=2, false) => (TEXT, true, text()),
        (3..=5, false) => (BINARY, true, bytes()),
        (6, false) => (TEXT, false, text()),
        (7, false) => (BINARY, false, bytes()),
        (8, false) => (TEXT, false, halves(size, true)),
        (0..=3, true) => (CONTINUATION, false, text()),
        (4, true) => (CONTINUATION, false, bytes()),
        (5, true) => (CONTINUATION, true, bytes()),
        (6, true) => (CONTINUATION, true, text()),
        (7 | 8, true) => (CONTINUATION, true, halves(size, false)),
        (9 | 10, _) => (PING, true, vec![n; len.min(125)]),
        (11, _) => (PONG, true, vec![n; len.min(125)]),
        (12, true) => (BINARY, true, bytes()), // which is not allowed here
        (12 | 13, _) => (TEXT, true, bytes()), // which may be invalid here
        (14, _) => (CLOSE, true, close(size, what)),
        _ => (what >> 4, size.is_multiple_of(2), bytes()),
    };
    if opcode < 8 {
        *open = !fin;
    }
    Frame { first: opcode | if fin { FIN } else { 0 }, mask, payload, form: Form::Shortest }
}

/// One half of a split character.
fn halves(size: u8, first: bool) -> Vec<u8> {
    let smile = "😀".as_bytes();
    let at = 1 + usize::from(size) % 3;
    if first { smile[..at].to_vec() } else { smile[at..].to_vec() }
}

fn close(size: u8, what: u8) -> Vec<u8> {
    let code = match size {
        0..=9 => return vec![0x03; usize::from(size % 2)],
        10..=50 => 1000 + u16::from(size % 16),
        51..=90 => 3000 + u16::from(size) * 25,
        _ => u16::from(size) * 100 + u16::from(what),
    };
    [&code.to_be_bytes(), TEXTS[usize::from(what >> 4) % TEXTS.len()].as_bytes()].concat()
}

fn mistake(mut frame: Frame, wrong: u8) -> Frame {
    match wrong {
        0x80..=0x87 => frame.form = Form::Two,
        0x88..=0x8f => frame.form = Form::Eight,
        0x90..=0x97 => frame.mask = if frame.mask.is_some() { None } else { Some([1, 2, 3, wrong]) },
        0x98..=0x9f => frame.mask = frame.mask.map(|_| [0; 4]),
        0xa0..=0xa7 => frame.first ^= 0x10 << (wrong & 3),
        0xa8..=0xaf => frame.first ^= FIN,
        0xb0..=0xbf => frame.first = frame.first & 0xf0 | wrong & 0x0f,
        0xc0..=0xc7 => frame.payload.push(0xff),
        0xc8..=0xcf => frame.payload.extend([b'x'; 126]),
        _ => {}
    }
    frame
}
