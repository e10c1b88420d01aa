//! The program's messages on standard error. A thread of its own writes them, so that nothing else waits for
//! a slow reader or fails because of a missing one.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::stdio::Patient;

/// Bytes that may wait to be written: several times a list of 1000 sessions.
const ROOM: usize = 1024 * 1024;

/// Overhead counted for each line, in bytes.
const LINE: usize = 64;

/// The longest wait for unwritten messages when the program ends.
const LAST: Duration = Duration::from_secs(1);

static STANDARD_ERROR: Diagnostics = Diagnostics::new();

/// Starts the writer thread and reports panics here too. Lines added earlier are kept.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        report(format_args!("thread {:?} {panic}", thread.name().unwrap_or("without a name")));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            line(trace.to_string());
        }
    }));
    let write = || STANDARD_ERROR.write_to(&mut Patient(io::stderr()));
    // Without a thread, everything is written at the end.
    let _ = thread::Builder::new().name("diagnostics".to_owned()).spawn(write);
}

/// Writes a line that begins with the program's name.
pub fn report(text: impl Display) {
    line(format!("getty: {text}"));
}

/// Writes a line as it is.
pub fn line(line: String) {
    STANDARD_ERROR.add(line + "\n");
}

/// Writes lines as they are, with no others between them.
pub fn lines(lines: Vec<String>) {
    STANDARD_ERROR.add_all(lines.into_iter().map(|line| line + "\n"));
}

/// Writes text that is not a line, such as a progress bar.
pub fn show(text: String) {
    STANDARD_ERROR.add(text);
}

/// Waits until everything is written, for [`LAST`] at most.
pub fn settle() {
    STANDARD_ERROR.drain(LAST);
}

/// Reports the error with which the program ends, if any, and waits until everything is written, for [`LAST`]
/// at most.
pub fn finish(error: Option<String>) {
    let error = error.map(|error| format!("getty: {error}\n"));
    if !STANDARD_ERROR.finish(error, LAST) && !STANDARD_ERROR.lock().has_writer {
        // The thread could not be started, so this one writes, and may have to wait.
        while let Some(text) = STANDARD_ERROR.lock().next() {
            let _ = Patient(io::stderr()).write_all(text.line.as_bytes());
        }
    }
}

/// Exits at once, whatever is under way. Prints `error`, if any.
pub fn exit(code: i32, error: Option<String>) -> ! {
    finish(error);
    std::process::exit(code)
}

/// Texts waiting to be written.
struct Diagnostics {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    texts: VecDeque<Text>,
    /// Total weight of the texts.
    weight: usize,
    /// The writer has taken a text and not finished it.
    writing: bool,
    has_writer: bool,
    /// The last write failed.
    failing: bool,
    /// Lines dropped since the last report of drops.
    dropped: u64,
    /// The program's final error was added: lines added after it are dropped.
    closing: bool,
}

struct Text {
    line: String,
    /// Number of lines lost if this text can't be written.
    stands_for: u64,
}

impl Diagnostics {
    const fn new() -> Self {
        let queue = Queue {
            texts: VecDeque::new(),
            weight: 0,
            writing: false,
            has_writer: false,
            failing: false,
            dropped: 0,
            closing: false,
        };
        Diagnostics { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: String) {
        self.add_all([line]);
    }

    fn add_all(&self, lines: impl IntoIterator<Item = String>) {
        let mut queue = self.lock();
        lines.into_iter().for_each(|line| queue.add(line));
        drop(queue);
        self.changed.notify_all();
    }

    /// Writes added texts, forever.
    fn write_to(&self, out: &mut impl Write) {
        let mut queue = self.lock();
        queue.has_writer = true;
        loop {
            let Some(text) = queue.next() else {
                queue.writing = false;
                self.changed.notify_all();
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.writing = true;
            drop(queue);
            let written = out.write_all(text.line.as_bytes()).and_then(|()| out.flush());
            queue = self.lock();
            queue.failing = written.is_err();
            if queue.failing {
                queue.dropped += text.stands_for; // a reader may come back, or space on the disk
            }
        }
    }

    /// Waits until everything is written, for `time` at most. Returns whether it is.
    fn drain(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut queue = self.lock();
        while queue.writing || !queue.texts.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Adds `last`, even without room, and waits until everything is written, for `time` at most. Returns
    /// whether it is. After half of the time all other texts are dropped, so that a slow reader still gets
    /// `last`.
    fn finish(&self, last: Option<String>, time: Duration) -> bool {
        let has_last = last.is_some();
        if let Some(last) = last {
            let mut queue = self.lock();
            queue.push(last);
            queue.closing = true;
            drop(queue);
            self.changed.notify_all();
        }
        if self.drain(time / 2) {
            return true;
        }
        if has_last {
            self.lock().keep_last();
        }
        self.drain(time / 2)
    }
}

impl Queue {
    /// Drops `line` if there is no room for it. From then on lines are dropped until half of the room is
    /// free: otherwise a reader that is slightly too slow would get mostly reports of drops.
    fn add(&mut self, line: String) {
        let room = if self.dropped > 0 { ROOM / 2 } else { ROOM };
        if self.closing || self.weight + weight(&line) > room {
            self.dropped += 1;
        } else {
            self.push(line);
        }
    }

    fn push(&mut self, line: String) {
        for text in self.report().into_iter().chain([Text { line, stands_for: 1 }]) {
            self.weight += weight(&text.line);
            self.texts.push_back(text);
        }
    }

    /// Takes the next text to write. The report of dropped lines comes after all others, but is omitted if
    /// the program ends with an error, which is then the last line.
    fn next(&mut self) -> Option<Text> {
        match self.texts.pop_front() {
            Some(text) => {
                self.weight -= weight(&text.line);
                Some(text)
            }
            // Retried together with the next line.
            None if self.failing || self.closing => None,
            None => self.report(),
        }
    }

    fn report(&mut self) -> Option<Text> {
        let dropped = std::mem::take(&mut self.dropped);
        let line = format!("getty: {dropped} lines that could not be written here were dropped\n");
        (dropped > 0).then_some(Text { line, stands_for: dropped })
    }

    /// Drops all texts but the last.
    fn keep_last(&mut self) {
        if let Some(last) = self.texts.pop_back() {
            self.dropped += self.texts.iter().map(|text| text.stands_for).sum::<u64>();
            (self.texts, self.weight) = (VecDeque::new(), 0);
            self.push(last.line);
        }
    }
}

fn weight(line: &str) -> usize {
    line.len() + LINE
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A writer that writes as often as the test allows, and fails on demand.
    struct Gate {
        allowed: Receiver<bool>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            match self.allowed.recv() {
                Ok(true) => self.written.send(String::from_utf8_lossy(text).into_owned()).unwrap(),
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Makes diagnostics with a writer thread that the test controls.
    fn diagnostics() -> (&'static Diagnostics, Sender<bool>, Receiver<String>) {
        let ((allow, allowed), (written, texts)) = (channel(), channel());
        let diagnostics: &'static Diagnostics = Box::leak(Box::new(Diagnostics::new()));
        thread::spawn(move || diagnostics.write_to(&mut Gate { allowed, written }));
        (diagnostics, allow, texts)
    }

    const FOREVER: Duration = Duration::from_secs(60);

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (diagnostics, allow, texts) = diagnostics();
        let line = "x".repeat(1000);
        let room = ROOM / weight(&line);
        for _ in 0..3 * room {
            diagnostics.add(line.clone());
        }
        assert!(diagnostics.lock().weight <= ROOM);
        let dropped = diagnostics.lock().dropped;
        assert!((2 * room as u64 - 2..=2 * room as u64).contains(&dropped), "{dropped}");
        // A little free room is not enough.
        let kept = 3 * room - dropped as usize;
        (0..kept / 3).for_each(|_| allow.send(true).unwrap());
        (0..kept / 3).for_each(|_| assert_eq!(texts.recv_timeout(FOREVER).unwrap(), line));
        diagnostics.add(line.clone());
        (kept / 3..kept).for_each(|_| allow.send(true).unwrap());
        (kept / 3..kept).for_each(|_| assert_eq!(texts.recv_timeout(FOREVER).unwrap(), line));
        // The report comes without another line.
        allow.send(true).unwrap();
        let told = texts.recv_timeout(FOREVER).unwrap();
        assert_eq!(
            told,
            format!("getty: {} lines that could not be written here were dropped\n", dropped + 1)
        );
        diagnostics.add("next".to_owned());
        allow.send(true).unwrap();
        assert_eq!(texts.recv_timeout(FOREVER).unwrap(), "next");
        assert!(diagnostics.drain(FOREVER));
        let queue = diagnostics.lock();
        assert_eq!((queue.weight, queue.dropped), (0, 0));
    }

    #[test]
    fn what_fails_is_counted_and_the_next_is_tried() {
        let (diagnostics, allow, texts) = diagnostics();
        diagnostics.add("first".to_owned());
        allow.send(false).unwrap();
        assert!(diagnostics.drain(FOREVER), "it is not tried again and again");
        diagnostics.add("second".to_owned());
        (0..2).for_each(|_| allow.send(false).unwrap()); // the report of drops, and the line
        assert!(diagnostics.drain(FOREVER));
        diagnostics.add("third".to_owned());
        (0..2).for_each(|_| allow.send(true).unwrap());
        assert!(diagnostics.drain(FOREVER));
        let told: Vec<String> = texts.try_iter().collect();
        assert_eq!(told, ["getty: 2 lines that could not be written here were dropped\n", "third"]);
    }

    #[test]
    fn the_last_is_not_dropped_and_a_slow_reader_gets_it() {
        let (diagnostics, allow, texts) = diagnostics();
        let line = "x".repeat(1000);
        let lines = 2 * ROOM / weight(&line);
        diagnostics.add(line.clone());
        while !diagnostics.lock().writing {
            thread::yield_now();
        }
        (1..lines).for_each(|_| diagnostics.add(line.clone()));
        assert!(!diagnostics.finish(Some("the end".to_owned()), Duration::from_millis(10)));
        (0..3).for_each(|_| allow.send(true).unwrap());
        assert!(diagnostics.drain(FOREVER));
        let told: Vec<String> = texts.try_iter().collect();
        let dropped = lines - 1; // one was being written
        assert_eq!(
            told,
            [
                line,
                format!("getty: {dropped} lines that could not be written here were dropped\n"),
                "the end".to_owned()
            ]
        );
    }

    #[test]
    fn what_is_added_after_the_last_does_not_take_its_place() {
        let (diagnostics, allow, texts) = diagnostics();
        diagnostics.add("first".to_owned());
        while !diagnostics.lock().writing {
            thread::yield_now();
        }
        let finishing =
            thread::spawn(|| diagnostics.finish(Some("the end".to_owned()), Duration::from_millis(400)));
        while diagnostics.lock().texts.is_empty() {
            thread::yield_now();
        }
        (0..10).for_each(|_| diagnostics.add("late".to_owned()));
        assert!(!finishing.join().unwrap(), "nothing could be written");
        (0..3).for_each(|_| allow.send(true).unwrap());
        assert!(diagnostics.drain(FOREVER));
        let told: Vec<String> = texts.try_iter().collect();
        assert_eq!((told[0].as_str(), told.last().unwrap().as_str()), ("first", "the end"));
        assert!(!told.contains(&"late".to_owned()));
    }

    #[test]
    fn a_reader_gets_everything_before_the_end() {
        let (diagnostics, allow, texts) = diagnostics();
        diagnostics.add("first".to_owned());
        (0..2).for_each(|_| allow.send(true).unwrap());
        assert!(diagnostics.finish(Some("the end".to_owned()), FOREVER));
        assert_eq!(texts.try_iter().collect::<Vec<_>>(), ["first", "the end"]);
    }
}
