//! The thread's memory, lent to the session whose turn it is: one [`Memory`], one [`RecvBatch`], one buffer
//! for streams that can only read into initialised memory, and what compresses the bodies of RPC.

use std::cell::Cell;

use getty_core::Memory;
use getty_core::datagram::RecvBatch;
#[cfg(feature = "rpc")]
use getty_core::rpc::Coders;

/// Size of the buffer: usually enough for everything in a socket. Bytes read are copied from here to their
/// destination. For sizes that fit the first-level cache, that costs next to nothing.
const SCRATCH_SIZE: usize = 64 * 1024;

thread_local! {
    static MEMORY: Cell<Option<Memory>> = const { Cell::new(None) };
    static BATCH: Cell<Option<RecvBatch>> = const { Cell::new(None) };
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    #[cfg(feature = "rpc")]
    static CODERS: Cell<Option<Box<Coders>>> = const { Cell::new(None) };
}

/// The thread's memory, or new memory if it is in use (a session polled inside another's turn).
pub(crate) fn take() -> Memory {
    MEMORY.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

pub(crate) fn give_back(memory: Memory) {
    // While the thread ends, its memory is dropped instead.
    let _ = MEMORY.try_with(|cell| cell.set(Some(memory)));
}

/// The thread's batch, or a new one if it is in use.
pub(crate) fn take_batch() -> RecvBatch {
    BATCH.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

pub(crate) fn give_batch_back(batch: RecvBatch) {
    let _ = BATCH.try_with(|cell| cell.set(Some(batch)));
}

/// Lends the thread's buffer to `work`. Nested calls, as by a stream on top of another stream, get a new
/// buffer.
pub(crate) fn lend_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = SCRATCH.take();
    buffer.resize(SCRATCH_SIZE, 0);
    let result = work(&mut buffer);
    SCRATCH.set(buffer);
    result
}

/// Lends the thread's coders to `work`.
#[cfg(feature = "rpc")]
pub(crate) fn lend_coders<T>(work: impl FnOnce(&mut Coders) -> T) -> T {
    let mut coders = CODERS.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let result = work(&mut coders);
    // While the thread ends, they are dropped instead.
    let _ = CODERS.try_with(|cell| cell.set(Some(coders)));
    result
}
