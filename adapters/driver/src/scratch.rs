//! A buffer of the thread for streams that can only read into initialised room.

use std::cell::Cell;

/// Enough for what a socket holds as a rule. What is read is copied from here to where it belongs; for sizes that fit
/// the first-level cache that is next to nothing.
const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's buffer to `work`; to work within that, which a stream on top of another stream does, a new one.
pub(crate) fn lend<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    buffer.resize(SIZE, 0);
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}
