//! Frames of getty rpc 2 as bytes made by hand, for peers that share no code with the library.

use std::io::{self, Read};

/// The kind of a Request.
pub const REQUEST: u8 = 1;
/// The kind of a Reply.
pub const REPLY: u8 = 2;
/// The kind of an Error.
pub const ERROR: u8 = 3;
/// The kind of an Item.
pub const ITEM: u8 = 5;
/// The kind of a GoAway.
pub const GO_AWAY: u8 = 10;

/// The flag of a body that is compressed.
pub const COMPRESSED: u8 = 1;
/// The flag of a request that a stream follows.
pub const MORE: u8 = 2;

/// Makes a frame.
pub fn frame(kind: u8, flags: u8, id: u32, head: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (head.len() + body.len()) as u32;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend([kind, flags]);
    frame.extend((head.len() as u16).to_le_bytes());
    frame.extend(id.to_le_bytes());
    [&frame, head, body].concat()
}

/// What each side says first: the preface, and a Hello with 2048 calls, and windows and frames of 64 KiB.
pub fn opening() -> Vec<u8> {
    let mut bytes = b"\xfagty\x02\0\0\0".to_vec();
    bytes.extend(frame(0, 0, 0, b"\x08\x80\x10\x10\x80\x80\x04\x18\x80\x80\x04", b""));
    bytes
}

/// The same, and that compressed bodies are taken.
pub fn opening_with_deflate() -> Vec<u8> {
    let mut bytes = b"\xfagty\x02\0\0\0".to_vec();
    bytes.extend(frame(0, 0, 0, b"\x08\x80\x10\x10\x80\x80\x04\x18\x80\x80\x04\x20\x01", b""));
    bytes
}

/// Makes a request with the codec `raw`.
pub fn request(id: u32, method: &str, body: &[u8]) -> Vec<u8> {
    frame(REQUEST, 0, id, &request_head(method, "raw"), body)
}

/// Makes the head of a request. `method` and `codec` have at most 127 bytes.
pub fn request_head(method: &str, codec: &str) -> Vec<u8> {
    let (method, codec) = (method.as_bytes(), codec.as_bytes());
    [&[0x0a, method.len() as u8], method, &[0x1a, codec.len() as u8], codec].concat()
}

/// Makes a request whose head cannot be read: it names no method and no codec.
pub fn broken_request(id: u32) -> Vec<u8> {
    frame(REQUEST, 0, id, b"", b"")
}

/// Makes the frame that gives the call `id` up.
pub fn cancel(id: u32) -> Vec<u8> {
    frame(4, 0, id, b"", b"")
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The kind.
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The call, or 0.
    pub id: u32,
    /// The head.
    pub head: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl Heard {
    /// Reads the next frame.
    ///
    /// # Errors
    /// Those of the stream, which may also have ended.
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 12];
        stream.read_exact(&mut header)?;
        let [a, b, c, d, kind, flags, e, f, id @ ..] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let mut head = vec![0; length];
        stream.read_exact(&mut head)?;
        let body = head.split_off(usize::from(u16::from_le_bytes([e, f])));
        Ok(Heard { kind, flags, id: u32::from_le_bytes(id), head, body })
    }

    /// Whether this is a GoAway because of too much useless work.
    pub fn says_calm_down(&self) -> bool {
        self.kind == GO_AWAY && self.head.starts_with(b"\x08\x02")
    }
}

/// Reads what the side that accepted says first: its preface.
///
/// # Errors
/// Those of the stream, or other bytes.
pub fn read_preface(stream: &mut impl Read) -> io::Result<()> {
    let mut preface = [0; 8];
    stream.read_exact(&mut preface)?;
    if preface.starts_with(b"\xfagty\x02") {
        return Ok(());
    }
    Err(io::Error::other(format!("no preface of getty rpc 2: {}", preface.escape_ascii())))
}
