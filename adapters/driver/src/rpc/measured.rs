//! [`Measured`]: counters and times of calls.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use getty_core::rpc::Code;
use metrics::{Counter, Gauge, Histogram};

use crate::rpc::at_end::{AtEnd, name};
use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::layer::{Layer, Next};
use crate::rpc::names::Names;

/// A layer that counts and times calls with [`metrics`].
///
/// | metric | kind | labels |
/// |---|---|---|
/// | `getty_rpc_calls` | gauge: calls whose handlers run | - |
/// | `getty_rpc_calls_total` | counter, when a handler ends | `method`, `code` |
/// | `getty_rpc_call_seconds` | histogram of the time from the layer to the handler's end | `method` |
///
/// `method` is a method that is served; `other` stands for all that are not, so that no caller can make
/// labels. `code` is `ok`, or the [name](super::Code::name) of the code. A handler that is dropped has the
/// code `cancelled`, or `deadline_exceeded` if that is why; one that panics has `internal`.
///
/// ```
/// use getty_driver::rpc::{Measured, Services};
///
/// let services = Services::new().layer(Measured::new());
/// ```
///
/// Add it before other layers, so that it counts what they refuse too. Install the recorder before the first
/// call: the layer looks each metric up once.
#[derive(Default)]
pub struct Measured {
    /// Made at the first call.
    metrics: OnceLock<Metrics>,
}

struct Metrics {
    running: Gauge,
    names: Arc<Names>,
    /// By the places of the names, each made at the first call of the method.
    methods: Box<[OnceLock<Method>]>,
    other: OnceLock<Method>,
}

/// The number of codes, with that of success.
const CODES: usize = Code::Unauthenticated as usize + 1;

struct Method {
    name: Arc<str>,
    seconds: Histogram,
    /// By the numbers of the codes; 0 is success.
    total: [OnceLock<Counter>; CODES],
}

impl Measured {
    /// Makes the layer.
    pub fn new() -> Self {
        Measured::default()
    }
}

impl Metrics {
    fn new(names: Arc<Names>) -> Self {
        let methods = names.iter().map(|_| OnceLock::new()).collect();
        Metrics { running: metrics::gauge!("getty_rpc_calls"), names, methods, other: OnceLock::new() }
    }

    fn method(&self, inbound: &Inbound) -> &Method {
        match inbound.position(&self.names) {
            Some(place) => self.methods[place].get_or_init(|| Method::new(self.names.at(place).clone())),
            None => self.other.get_or_init(|| Method::new("other".into())),
        }
    }
}

impl Method {
    fn new(name: Arc<str>) -> Self {
        let seconds = metrics::histogram!("getty_rpc_call_seconds", "method" => name.clone());
        Method { name, seconds, total: Default::default() }
    }

    fn count(&self, code: Option<Code>) {
        let counter = &self.total[code.map_or(0, |code| code as usize)];
        let counter = counter.get_or_init(|| {
            metrics::counter!("getty_rpc_calls_total", "method" => self.name.clone(), "code" => name(code))
        });
        counter.increment(1);
    }
}

impl Layer for Measured {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        let names = &inbound.seat.connection().served;
        let metrics = self.metrics.get_or_init(|| Metrics::new(names.clone()));
        let method = metrics.method(&inbound);
        let begun = Instant::now();
        metrics.running.increment(1.0);
        let at_end = AtEnd::new(&inbound, |code| {
            metrics.running.decrement(1.0);
            method.count(code);
            method.seconds.record(begun.elapsed());
        });
        let answer = next.run(inbound).await;
        at_end.answer(&answer);
        answer
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}
