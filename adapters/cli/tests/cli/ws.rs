//! WebSocket by hand, for peers that do what no library would do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use getty_tokio::core::websocket::accept_key;

use crate::support::{Server, peer};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// Added to the opcode of the last frame of a message.
pub const FIN: u8 = 0x80;

/// Headers that ask for an upgrade, with the key of RFC 6455 section 1.2.
pub const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// Sends a GET request with `headers`. Returns the head of the response and the stream after it.
pub fn get(server: &Server, target: &str, headers: &str) -> (String, TcpStream) {
    request(server, &format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.authority()))
}

/// Sends a request. Returns the head of the response and the stream after it.
pub fn request(server: &Server, request: &str) -> (String, TcpStream) {
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).unwrap();
    (read_head(&mut stream), stream)
}

/// Opens a session with `server`.
pub fn open(server: &Server) -> TcpStream {
    let path = server.url.rsplit_once(server.authority()).unwrap().1;
    let (head, stream) = get(server, path, UPGRADE);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Starts a server that accepts one client and then does `work`, which gets the head of the request. Returns
/// its URL.
pub fn ws_peer<T: Send + 'static>(
    work: impl FnOnce(String, TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let (url, thread) = peer(move |mut stream| {
        let head = read_head(&mut stream);
        let key = header(&head, "Sec-WebSocket-Key").unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(key)
        );
        stream.write_all(answer.as_bytes()).unwrap();
        work(head, stream)
    });
    (url.replace("tcp://", "ws://") + "/", thread)
}

/// The value of a header.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| *n == name).map(|(_, value)| value))
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A frame from a server; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, payload, 0, payload)
}

/// A frame from a client; `first` is its first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 2, 3, 4];
    let masked: Vec<u8> = payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    frame_with(first, payload, 0x80, &[&KEY[..], &masked].concat())
}

fn frame_with(first: u8, payload: &[u8], mask_bit: u8, rest: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ 0..=125 => vec![mask_bit | short as u8],
        medium @ 126..=0xffff => [&[mask_bit | 126][..], &(medium as u16).to_be_bytes()].concat(),
        long => [&[mask_bit | 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    [&[first], &length[..], rest].concat()
}

/// The next frame: its first byte, and the payload unmasked.
pub fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut start = [0; 2];
    stream.read_exact(&mut start).unwrap();
    let length = match start[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes(read_array(stream))),
        127 => u64::from_be_bytes(read_array(stream)),
        short => u64::from(short),
    };
    let key = if start[1] & 0x80 == 0 { [0; 4] } else { read_array(stream) };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    (start[0], payload)
}

fn read_array<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut array = [0; N];
    stream.read_exact(&mut array).unwrap();
    array
}

/// Checks that the next frame is a close frame with `code`. Returns its reason.
#[track_caller]
pub fn expect_close(stream: &mut TcpStream, code: u16) -> String {
    let (first, payload) = read_frame(stream);
    assert_eq!((first, payload.get(..2)), (FIN | CLOSE, Some(&code.to_be_bytes()[..])));
    String::from_utf8(payload[2..].to_vec()).unwrap()
}

/// The payload of a close frame.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}
