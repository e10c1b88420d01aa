//! [`Measured`]: counters and times of calls.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use crate::rpc::at_end::AtEnd;
use crate::rpc::call_layer::{CallLayer, CallNext, Outbound};
use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::layer::{Layer, Next};
use crate::rpc::method_metrics::MethodMetrics;
use crate::rpc::names::Names;

/// A layer that counts and times calls with [`metrics`]: for a list of services, or for a
/// [`Caller`](super::Caller).
///
/// | metric | kind | labels |
/// |---|---|---|
/// | `getty_rpc_calls` | gauge: handlers that run, or calls that have not ended | `side` |
/// | `getty_rpc_calls_total` | counter, at the end | `side`, `method`, `code` |
/// | `getty_rpc_call_seconds` | histogram of the time from the layer to the end | `side`, `method` |
///
/// `side` is `server` for handlers, `client` for calls.
///
/// `method` is a method that is served; `other` stands for all that are not, so that no caller can make
/// labels. On the side of the caller, it is one of the first 256 methods that are called; `other` stands for
/// those after them, since names may be made up at run time.
///
/// `code` is `ok`, or the [name](super::Code::name) of the code. A handler that is dropped has the code
/// `cancelled`, or `deadline_exceeded` if that is why; one that panics has `internal`. A call that is given
/// up has `cancelled`, also a stream that is not read to its end.
///
/// ```
/// use getty_driver::rpc::{Caller, Measured, Services};
///
/// let services = Services::new().layer(Measured::new());
///
/// fn measured(caller: Caller) -> Caller {
///     caller.layer(Measured::new())
/// }
/// ```
///
/// Add it before other layers, so that it counts what they refuse too. Install the recorder before the first
/// call: the layer looks each metric up once.
#[derive(Default)]
pub struct Measured {
    /// Each is made at the first call of its side.
    served: OnceLock<Served>,
    called: OnceLock<Called>,
}

impl Measured {
    /// Makes the layer.
    pub fn new() -> Self {
        Measured::default()
    }
}

impl Layer for Measured {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        let names = &inbound.seat.connection().served;
        let method = self.served.get_or_init(|| Served::new(names.clone())).method(&inbound);
        let begun = method.begin();
        let at_end = AtEnd::of_handler(&inbound, |code| method.end(begun, code));
        let answer = next.run(inbound).await;
        at_end.answer(&answer);
        answer
    }
}

impl CallLayer for Measured {
    async fn call(&self, outbound: Outbound, next: CallNext<'_>) -> Response {
        let method = self.called.get_or_init(Called::default).method(outbound.method());
        let begun = method.begin();
        let at_end = AtEnd::of_call(|code| method.end(begun, code));
        let answer = next.run(outbound).await;
        at_end.answer(&answer);
        answer
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

/// The methods that are served.
struct Served {
    names: Arc<Names>,
    /// By the places of the names, each made at the first call of the method.
    methods: Box<[OnceLock<MethodMetrics>]>,
    other: OnceLock<MethodMetrics>,
}

impl Served {
    fn new(names: Arc<Names>) -> Self {
        let methods = names.iter().map(|_| OnceLock::new()).collect();
        Served { names, methods, other: OnceLock::new() }
    }

    fn method(&self, inbound: &Inbound) -> &MethodMetrics {
        const SIDE: &str = "server";
        match inbound.position(&self.names) {
            Some(place) => {
                let name = || self.names.at(place).name().clone();
                self.methods[place].get_or_init(|| MethodMetrics::new(SIDE, name()))
            }
            None => self.other.get_or_init(|| MethodMetrics::of_others(SIDE)),
        }
    }
}

/// The most methods that a caller's metrics name. Documented on [`Measured`].
const MOST: usize = 256;

/// The methods that were called: a hash table that is read without a lock and never grows. A method stays
/// where its first call has put it, in the first free place from its hash on.
struct Called {
    hasher: RandomState,
    methods: Box<[OnceLock<Box<MethodMetrics>>]>,
    other: OnceLock<MethodMetrics>,
}

impl Default for Called {
    fn default() -> Self {
        let methods = (0..MOST).map(|_| OnceLock::new()).collect();
        Called { hasher: RandomState::new(), methods, other: OnceLock::new() }
    }
}

impl Called {
    fn method(&self, name: &str) -> &MethodMetrics {
        const SIDE: &str = "client";
        let first = self.hasher.hash_one(name) as usize % MOST;
        let places = self.methods[first..].iter().chain(&self.methods[..first]);
        let mut methods =
            places.map(|place| place.get_or_init(|| Box::new(MethodMetrics::new(SIDE, name.into()))));
        match methods.find(|method| method.name() == name) {
            Some(method) => method,
            None => self.other.get_or_init(|| MethodMetrics::of_others(SIDE)),
        }
    }
}
