//! [`Traced`]: a span for each call.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use getty_core::rpc::Trace;
use tracing::Instrument;
use tracing::field::Empty;

use crate::rpc::at_end::{AtEnd, name};
use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::layer::{Layer, Next};

/// A layer that makes a span of [`tracing`] for each call, in the W3C trace context of its caller. Its
/// handler is polled, and dropped, in the span.
///
/// | span (target `getty`) | level | field | value |
/// |---|---|---|---|
/// | `rpc` | info | `method` | service and method, as the caller wrote them |
/// | | | `trace_id` | 32 hexadecimal digits: the caller's, or a new one |
/// | | | `parent_id` | 16 hexadecimal digits: the caller's span; absent if it named none |
/// | | | `span_id` | 16 hexadecimal digits: this span |
/// | | | `peer` | the peer's address, if the transport has one |
/// | | | `code` | at the end: `ok`, or the [name](super::Code::name) of the code |
///
/// A handler that is dropped has the code `cancelled`, or `deadline_exceeded` if that is why; one that panics
/// has `internal`.
///
/// Calls that the handler makes [`within`](super::Calling::within) its own name this span as their parent. If
/// no subscriber wants the span, they go on from the caller's, as they do without this layer. Whether the
/// trace is sampled is the caller's decision; a trace that begins here is.
///
/// ```
/// use getty_driver::rpc::{Services, Traced};
///
/// let services = Services::new().layer(Traced::new());
/// ```
///
/// Add it before other layers, so that what they refuse has a span too.
#[derive(Debug)]
pub struct Traced {
    /// Random, so that ids repeat in no other layer or process.
    seed: u64,
    /// The upper half of the traces that begin here. Random too; samplers look at the lower half.
    traces: u64,
    count: AtomicU64,
}

impl Traced {
    /// Makes the layer, with ids of its own.
    pub fn new() -> Self {
        // Its keys are the system's random bytes.
        let random = RandomState::new();
        Traced { seed: random.hash_one(0), traces: random.hash_one(1), count: AtomicU64::new(0) }
    }

    /// Makes an id, which is not zero.
    fn id(&self) -> u64 {
        // SplitMix64: all numbers come, each once, in an order of no use to anyone.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut id = count.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.seed);
        id = (id ^ id >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        id = (id ^ id >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (id ^ id >> 31).max(1)
    }

    /// The place in a trace of the span `span_id`, which is below `caller`.
    fn below(&self, caller: Option<&Trace>, span_id: u64) -> Trace {
        match caller {
            Some(caller) => caller.clone().with_parent_id(span_id),
            None => Trace::new(u128::from(self.traces) << 64 | u128::from(self.id()), span_id, true),
        }
    }
}

impl Default for Traced {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for Traced {
    async fn dispatch<D: Dispatch>(&self, mut inbound: Inbound, next: Next<'_, D>) -> Response {
        let caller = inbound.trace().filter(|trace| trace.is_valid());
        let span_id = self.id();
        let trace = self.below(caller, span_id);
        let span = tracing::info_span!(
            target: "getty",
            "rpc",
            method = inbound.method(),
            trace_id = %format_args!("{:032x}", trace.trace_id()),
            parent_id = caller.map(|caller| display(Id(caller.parent_id()))),
            span_id = %Id(span_id),
            peer = inbound.peer_addr().map(display),
            code = Empty,
        );
        if span.is_disabled() {
            return next.run(inbound).await;
        }
        inbound.request.set_trace(Some(trace));
        let at_end = AtEnd::new(&inbound, |code| {
            span.record("code", name(code));
        });
        let answer = next.run(inbound).instrument(span.clone()).await;
        at_end.answer(&answer);
        answer
    }
}

/// The id of a span, as it is written.
struct Id(u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
