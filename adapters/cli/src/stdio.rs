//! Standard input and output, each in a thread of its own behind bounded channels. They may be non-blocking
//! because of another program.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::thread::{self, JoinHandle};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::sync::mpsc;

use crate::payload::Payload;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Batches that may wait in a channel. Each holds a chunk, or a single larger message.
const BATCHES: usize = 2;

/// A standard stream that blocks until it is ready. Another program may have made it non-blocking for all
/// programs that share it.
pub struct Patient<T>(pub T);

#[cfg(unix)]
mod wait {
    use std::io;
    use std::os::fd::AsFd;

    pub use rustix::event::PollFlags as Flags;
    use rustix::event::{PollFd, poll};

    pub const READABLE: Flags = Flags::IN;
    pub const WRITABLE: Flags = Flags::OUT;

    /// Runs `work`, again each time the stream becomes ready, until it does not block.
    pub fn until_done<T: AsFd, R>(
        stream: &mut T,
        flags: Flags,
        mut work: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            match work(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match poll(&mut [PollFd::new(stream, flags)], None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                result => return result,
            }
        }
    }
}

/// Standard streams are never non-blocking on other systems.
#[cfg(not(unix))]
mod wait {
    use std::io;

    pub use std::marker::Sized as AsFd;

    pub const READABLE: () = ();
    pub const WRITABLE: () = ();

    pub fn until_done<T, R>(
        stream: &mut T,
        _flags: (),
        mut work: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        work(stream)
    }
}

#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(not(unix))]
use wait::AsFd;

impl<T: Read + AsFd> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait::until_done(&mut self.0, wait::READABLE, |stream| stream.read(buffer))
    }
}

impl<T: Write + AsFd> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait::until_done(&mut self.0, wait::WRITABLE, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        wait::until_done(&mut self.0, wait::WRITABLE, Write::flush)
    }
}

/// Writes `text` to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = Patient(io::stdout().lock());
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The way standard input becomes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Each line is a message, without its LF. Bytes after the last LF are a message too.
    Lines,
    /// Bytes as they arrive.
    Nowhere,
}

/// Messages that were read together, in order. An error is the last batch.
pub type Batch<M> = Result<VecDeque<M>, String>;

/// Reads standard input in a thread that ends with the program. The channel ends with the input.
pub fn input<M: Payload>(cut: Cut, limit: usize) -> mpsc::Receiver<Batch<M>> {
    let (sender, receiver) = mpsc::channel(BATCHES);
    thread::spawn(move || {
        read(Patient(io::stdin().lock()), cut, limit, |batch| sender.blocking_send(batch).is_ok())
    });
    receiver
}

/// Reads `from` until its end, or until `give` returns false.
fn read<M: Payload>(mut from: impl Read, cut: Cut, limit: usize, mut give: impl FnMut(Batch<M>) -> bool) {
    let mut chunk = vec![0; CHUNK];
    let mut rest = BytesMut::new(); // the beginning of a line
    loop {
        let read = match from.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                give(Err(format!("can't read standard input: {error}")));
                return;
            }
        };
        let ended = read == 0;
        let mut pieces = Vec::new();
        match cut {
            Cut::Nowhere => pieces.extend(chunk[..read].chunks(limit).map(Bytes::copy_from_slice)),
            Cut::Lines => {
                let mut searched = rest.len();
                rest.extend_from_slice(&chunk[..read]);
                while let Some(at) = memchr(b'\n', &rest[searched..]) {
                    let mut line = rest.split_to(searched + at + 1);
                    line.truncate(searched + at);
                    searched = 0;
                    pieces.push(line.freeze());
                }
                if ended && !rest.is_empty() {
                    pieces.push(rest.split().freeze());
                }
            }
        }
        let too_long =
            || format!("a line of standard input exceeds the limit of {limit} bytes: raise --max-message");
        let mut problem = (rest.len() > limit).then(too_long);
        let mut batch = VecDeque::with_capacity(pieces.len());
        for piece in pieces {
            let message = if piece.len() > limit { Err(too_long()) } else { M::from_input(piece) };
            match message {
                Ok(message) => batch.push_back(message),
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
        }
        if !batch.is_empty() && !give(Ok(batch)) {
            return;
        }
        if let Some(problem) = problem {
            give(Err(problem));
            return;
        }
        if ended {
            return;
        }
    }
}

/// Standard output.
pub struct Output {
    pub sender: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<()>>,
}

impl Output {
    /// Starts to write the bytes sent to `sender`. The channel closes when writing fails.
    pub fn new() -> Self {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(BATCHES);
        let thread = thread::spawn(move || {
            let mut out = Patient(io::stdout().lock());
            while let Some(batch) = receiver.blocking_recv() {
                out.write_all(&batch)?;
                out.flush()?;
            }
            Ok(())
        });
        Output { sender, thread }
    }

    /// Sends `bytes` to be written. [`finish`](Self::finish) reports failures.
    pub async fn send(&mut self, bytes: Bytes) {
        let _ = self.sender.send(bytes).await;
    }

    /// Waits until everything is written. A reader that has gone is not an error.
    pub fn finish(self) -> io::Result<()> {
        drop(self.sender);
        match self.thread.join() {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use getty_driver::core::websocket::Message;

    use super::*;

    /// A reader that yields a few bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(buffer.len());
            self.0.read(&mut buffer[..n])
        }
    }

    fn messages(text: &[u8], piece: usize, cut: Cut, limit: usize) -> (Vec<Bytes>, Option<String>) {
        let (mut messages, mut error) = (Vec::new(), None);
        read(Pieces(text, piece), cut, limit, |batch| {
            match batch {
                Ok(batch) => messages.extend(batch),
                Err(problem) => error = Some(problem),
            }
            true
        });
        (messages, error)
    }

    #[test]
    fn lines_wherever_reads_end() {
        let text = b"one\n\nthree\r\n\xff\nlast";
        for piece in 1..=text.len() {
            let (lines, error) = messages(text, piece, Cut::Lines, 6);
            assert_eq!(lines, [&b"one"[..], b"", b"three\r", b"\xff", b"last"], "{piece}");
            assert_eq!(error, None);
        }
        assert_eq!(messages(b"", 1, Cut::Lines, 9).0, [""; 0]);
        assert_eq!(messages(b"\n", 1, Cut::Lines, 9).0, [""]);
    }

    #[test]
    fn a_line_over_the_limit_is_not_collected() {
        for text in [&b"ok\nlonger\nok\n"[..], b"ok\nlonger"] {
            for piece in 1..=text.len() {
                let (lines, error) = messages(text, piece, Cut::Lines, 5);
                assert_eq!(lines, ["ok"]);
                assert!(error.unwrap().contains("exceeds the limit of 5 bytes"));
            }
        }
        let mut given = 0;
        read(io::repeat(b'x'), Cut::Lines, 1 << 20, |batch: Batch<Bytes>| {
            given += 1;
            batch.is_ok()
        });
        assert_eq!(given, 1);
    }

    #[test]
    fn text_is_utf_8() {
        let (mut texts, mut error) = (Vec::new(), None);
        read(&b"gr\xc3\xbcn\n\xff\nnever\n"[..], Cut::Lines, 9, |batch: Batch<Message>| {
            match batch {
                Ok(batch) => texts.extend(batch),
                Err(problem) => error = Some(problem),
            }
            true
        });
        assert_eq!(texts, [Message::text("grün")]);
        assert!(error.unwrap().contains("not UTF-8"));
    }

    #[test]
    fn bytes_as_they_come() {
        assert_eq!(messages(b"a\nbc", 3, Cut::Nowhere, 9).0, ["a\nb", "c"]);
        assert_eq!(messages(b"a\nbc", 9, Cut::Nowhere, 3).0, ["a\nb", "c"]);
    }

    #[test]
    fn reading_stops_when_nobody_wants_more() {
        let mut given = 0;
        read(io::repeat(b'\n'), Cut::Lines, 9, |_: Batch<Bytes>| {
            given += 1;
            given < 3
        });
        assert_eq!(given, 3);
    }
}
