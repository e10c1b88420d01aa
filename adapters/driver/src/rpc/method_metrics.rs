//! [`MethodMetrics`]: the counters and times of one method.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use getty_core::rpc::Code;
use metrics::{Counter, Gauge, Histogram};

use crate::rpc::at_end::name;

/// The number of codes, with that of success.
const CODES: usize = Code::Unauthenticated as usize + 1;

/// The counters and times of one method, on one side.
pub(super) struct MethodMetrics {
    side: &'static str,
    name: Arc<str>,
    running: Gauge,
    seconds: Histogram,
    /// By the numbers of the codes; 0 is success.
    total: [OnceLock<Counter>; CODES],
}

impl MethodMetrics {
    pub(super) fn new(side: &'static str, name: Arc<str>) -> Self {
        let running = metrics::gauge!("getty_rpc_calls", "side" => side);
        let seconds = metrics::histogram!("getty_rpc_call_seconds", "side" => side, "method" => name.clone());
        MethodMetrics { side, name, running, seconds, total: Default::default() }
    }

    /// For all methods that have no label of their own.
    pub(super) fn of_others(side: &'static str) -> Self {
        Self::new(side, "other".into())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Notes that a call begins. Returns when.
    pub(super) fn begin(&self) -> Instant {
        self.running.increment(1.0);
        Instant::now()
    }

    /// Notes that a call has ended, with the code of a failure or `None`.
    pub(super) fn end(&self, begun: Instant, code: Option<Code>) {
        self.running.decrement(1.0);
        self.seconds.record(begun.elapsed());
        let counter = &self.total[code.map_or(0, |code| code as usize)];
        let counter = counter.get_or_init(|| {
            let method = self.name.clone();
            metrics::counter!("getty_rpc_calls_total", "side" => self.side, "method" => method, "code" => name(code))
        });
        counter.increment(1);
    }
}
