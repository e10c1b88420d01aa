//! Counts allocations per thread.
//!
//! ```
//! use testkit::alloc::{Counting, measure};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! let (boxed, usage) = measure(|| Box::new([0u8; 100]));
//! assert_eq!((usage.allocations, usage.live), (1, 100));
//! # drop(boxed);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, with counts for each thread. Set it as `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// The heap use of a piece of code, on its own thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks allocated or reallocated.
    pub allocations: u64,
    /// Bytes held after it minus bytes held before; negative if it freed older ones.
    pub live: i64,
    /// The maximum held at one time.
    pub peak: i64,
}

/// Runs `code` and returns its heap use. All zeros unless [`Counting`] is the allocator.
///
/// Measurements can't be nested: the inner one resets the outer one's peak.
pub fn measure<R>(code: impl FnOnce() -> R) -> (R, Usage) {
    let before = COUNTS.get();
    COUNTS.set(Counts { peak: before.live, ..before });
    let result = code();
    let after = COUNTS.get();
    let usage = Usage {
        allocations: after.allocations - before.allocations,
        live: after.live - before.live,
        peak: after.peak - before.live,
    };
    (result, usage)
}

/// Bytes held by all threads together. Zero unless [`Counting`] is the allocator.
pub fn held_by_all_threads() -> i64 {
    HELD.load(Ordering::Relaxed)
}

static HELD: AtomicI64 = AtomicI64::new(0);

#[derive(Debug, Clone, Copy)]
struct Counts {
    allocations: u64,
    live: i64,
    peak: i64,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live: 0, peak: 0 }) };
}

fn count(allocations: u64, bytes: i64) {
    HELD.fetch_add(bytes, Ordering::Relaxed);
    // The counts of a thread that is ending are gone, and no longer needed.
    let _ = COUNTS.try_with(|counts| {
        let mut c = counts.get();
        c.allocations += allocations;
        c.live += bytes;
        c.peak = c.peak.max(c.live);
        counts.set(c);
    });
}

// SAFETY: every call is passed on to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(block, layout, size) }
    }
}
