//! [`Limit`]: a limit of calls at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use getty_core::rpc::{Code, Executed, Status};

use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::layer::{Layer, Next};

/// A layer that limits the calls that run at once, on all connections of the services together. One more
/// is refused at once as not executed ([`Code::ResourceExhausted`]), so that its caller can go elsewhere.
///
/// ```
/// use getty_driver::rpc::{Limit, Services};
///
/// let services = Services::new().layer(Limit::new(1000)).layer(Limit::new(10).of("report.Report/Build"));
/// ```
#[derive(Debug)]
pub struct Limit {
    max: usize,
    method: Option<Box<str>>,
    running: Arc<AtomicUsize>,
}

impl Limit {
    /// At most `max` calls at once.
    pub fn new(max: usize) -> Self {
        Limit { max, method: None, running: Arc::default() }
    }

    /// Counts only the calls of `method` (`pkg.Service/Method`).
    #[must_use]
    pub fn of(mut self, method: &str) -> Self {
        self.method = Some(method.into());
        self
    }

    fn enter(&self) -> Option<Running> {
        let before = self.running.fetch_add(1, Ordering::AcqRel);
        let running = Running(self.running.clone());
        (before < self.max).then_some(running)
    }
}

/// A call that counts until this is dropped.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Layer for Limit {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        if self.method.as_ref().is_some_and(|method| !inbound.is_for(method)) {
            return next.run(inbound).await;
        }
        let Some(_running) = self.enter() else {
            let text = match &self.method {
                Some(method) => format!("{} calls of {method} run already", self.max),
                None => format!("{} calls run already", self.max),
            };
            return Err(Status::new(Code::ResourceExhausted, text).with_executed(Executed::No));
        };
        next.run(inbound).await
    }
}
