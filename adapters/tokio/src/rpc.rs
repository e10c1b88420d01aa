//! RPC in both directions: [`getty_driver::rpc`], with its functions that need a runtime on tokio.

use std::future::Future;

pub use getty_driver::rpc::*;

use getty_driver::core::rpc::Frame;
use getty_driver::{Items, Listener, ListenerFactory};

use crate::Tokio;

/// Makes a [`Caller`] of `services` without a socket, for tests of services, and the future that drives the
/// connection. See [`getty_driver::rpc::in_memory`].
///
/// With `#[tokio::test(start_paused = true)]`, deadlines pass in virtual time. A service that is not `Send`
/// needs a `LocalSet` and [`spawn_local`](tokio::task::spawn_local).
///
/// ```
/// use getty_tokio::rpc::{self, Raw, Services, Status};
///
/// # mod tokio {
/// #     pub use ::tokio::*;
/// #     pub use ::tokio::main as test;
/// # }
/// #[tokio::test]
/// async fn it_greets() {
///     let services = Services::new()
///         .method("greet.Greeter/Hello", Raw, |_call, name: String| async move {
///             Ok::<_, Status>(format!("Hello, {name}"))
///         });
///     let (caller, driving) = rpc::in_memory(services);
///     tokio::spawn(driving);
///     let greeting: String = caller.call("greet.Greeter/Hello", Raw, "Ann").await.unwrap();
///     assert_eq!(greeting, "Hello, Ann");
/// }
/// # fn main() { it_greets() }
/// ```
pub fn in_memory(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (Caller, impl Future<Output = ()>) {
    getty_driver::rpc::in_memory::<Tokio>(services)
}

/// Makes a [`Caller`] of `services` that serves `own` itself, for tests of handlers that call back. See
/// [`getty_driver::rpc::in_memory_with`].
pub fn in_memory_with(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
    own: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (Caller, impl Future<Output = ()>) {
    getty_driver::rpc::in_memory_with::<Tokio>(services, own)
}

/// Makes this end of the connections of a pool, and a [`Caller`] for calls over all of them. See
/// [`getty_driver::rpc::peers`].
pub fn peers(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (impl ListenerFactory<Items<Frame>, Listener = impl Listener<Items<Frame>>>, Caller) {
    getty_driver::rpc::peers::<Tokio>(services)
}
