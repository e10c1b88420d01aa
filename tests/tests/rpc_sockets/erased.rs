//! Listeners of one type for all tests.

use getty_core::Items;
use getty_core::rpc::Frame;
use getty_driver::Listener;

/// Any listener of RPC. Each list of services has a type of its own, for which all of the driver would be
/// compiled once more, on every runtime.
pub(crate) type AnyListener = Box<dyn Listener<Items<Frame>> + Send>;

pub(crate) fn erased(listener: impl Listener<Items<Frame>> + Send) -> AnyListener {
    Box::new(listener)
}

/// A factory of listeners, for servers.
pub(crate) fn erased_each<L>(
    listeners: impl Fn() -> L + Send + 'static,
) -> Box<dyn Fn() -> AnyListener + Send>
where
    L: Listener<Items<Frame>> + Send,
{
    Box::new(move || erased(listeners()))
}
