//! One [`Memory`] and one [`RecvBatch`] per thread, lent to whichever session has its turn.

use std::cell::Cell;

use getty_core::Memory;
use getty_core::datagram::RecvBatch;

thread_local! {
    static MEMORY: Cell<Option<Memory>> = const { Cell::new(None) };
    static BATCH: Cell<Option<RecvBatch>> = const { Cell::new(None) };
}

/// The thread's memory, or new memory if it is in use (a session polled inside another's turn).
pub(crate) fn take() -> Memory {
    MEMORY.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

pub(crate) fn give_back(memory: Memory) {
    // While the thread ends there is nobody to keep it for.
    let _ = MEMORY.try_with(|cell| cell.set(Some(memory)));
}

/// The thread's batch, or a new one if it is in use.
pub(crate) fn take_batch() -> RecvBatch {
    BATCH.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

pub(crate) fn give_batch_back(batch: RecvBatch) {
    let _ = BATCH.try_with(|cell| cell.set(Some(batch)));
}
