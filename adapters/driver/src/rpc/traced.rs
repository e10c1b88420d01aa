//! [`Traced`]: a span for each call.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use getty_core::rpc::{Code, Trace};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::rpc::at_end::{AtEnd, name};
use crate::rpc::call_layer::{CallLayer, CallNext, Outbound};
use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::layer::{Layer, Next};

/// A layer that makes a span of [`tracing`] for each call, in the W3C trace context of its caller: for a list
/// of services, or for a [`Caller`](super::Caller). The handler, or the call, is polled and dropped in the
/// span.
///
/// | span (target `getty`) | level | field | value |
/// |---|---|---|---|
/// | `rpc` | info | `side` | `server` around a handler, `client` around a call |
/// | | | `method` | service and method, as the caller wrote them |
/// | | | `trace_id` | 32 hexadecimal digits: that of the span around it, or a new one |
/// | | | `parent_id` | 16 hexadecimal digits: the span around it; absent if there is none |
/// | | | `span_id` | 16 hexadecimal digits: this span |
/// | | | `peer` | around a handler: the caller's address, if the transport has one |
/// | | | `code` | at the end: `ok`, or the [name](super::Code::name) of the code |
///
/// The span around a handler's is the one that the caller sent. The span around a call's is that of the
/// handler which it is made [`within`](super::Calling::within), or the one that was
/// [named](super::Calling::trace). If no subscriber wants the span, the trace goes on as it does without this
/// layer. Whether it is sampled is decided where it begins; a trace that begins here is.
///
/// A handler that is dropped has the code `cancelled`, or `deadline_exceeded` if that is why; one that panics
/// has `internal`. A call that is given up has `cancelled`, also a stream that is not read to its end.
///
/// ```
/// use getty_driver::rpc::{Caller, Services, Traced};
///
/// let services = Services::new().layer(Traced::new());
///
/// fn traced(caller: Caller) -> Caller {
///     caller.layer(Traced::new())
/// }
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

    /// Makes the span of a call inside of `around`, and its place in the trace. `None` if no subscriber wants
    /// the span.
    fn span(
        &self,
        side: &str,
        method: &str,
        around: Option<&Trace>,
        peer: Option<SocketAddr>,
    ) -> Option<(Span, Trace)> {
        let around = around.filter(|trace| trace.is_valid());
        let span_id = self.id();
        let trace = match around {
            Some(around) => around.clone().with_parent_id(span_id),
            None => Trace::new(u128::from(self.traces) << 64 | u128::from(self.id()), span_id, true),
        };
        let span = tracing::info_span!(
            target: "getty",
            "rpc",
            side,
            method,
            trace_id = %format_args!("{:032x}", trace.trace_id()),
            parent_id = around.map(|around| display(Id(around.parent_id()))),
            span_id = %Id(span_id),
            peer = peer.map(display),
            code = Empty,
        );
        (!span.is_disabled()).then_some((span, trace))
    }
}

impl Default for Traced {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for Traced {
    async fn dispatch<D: Dispatch>(&self, mut inbound: Inbound, next: Next<'_, D>) -> Response {
        let around = inbound.trace();
        let Some((span, trace)) = self.span("server", inbound.method(), around, inbound.peer_addr()) else {
            return next.run(inbound).await;
        };
        inbound.request.set_trace(Some(trace));
        let at_end = AtEnd::of_handler(&inbound, |code| record_end(&span, code));
        let answer = next.run(inbound).instrument(span.clone()).await;
        at_end.answer(&answer);
        answer
    }
}

impl CallLayer for Traced {
    async fn call(&self, mut outbound: Outbound, next: CallNext<'_>) -> Response {
        let Some((span, trace)) = self.span("client", outbound.method(), outbound.trace(), None) else {
            return next.run(outbound).await;
        };
        outbound.set_trace(Some(trace));
        let at_end = AtEnd::of_call(|code| record_end(&span, code));
        let answer = next.run(outbound).instrument(span.clone()).await;
        at_end.answer(&answer);
        answer
    }
}

fn record_end(span: &Span, code: Option<Code>) {
    span.record("code", name(code));
}

/// The id of a span, as it is written.
struct Id(u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
