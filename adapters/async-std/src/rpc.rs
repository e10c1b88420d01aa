//! RPC in both directions: [`getty_async_io::getty_driver::rpc`], with its functions that need a runtime on
//! async-std.

use std::future::Future;

pub use getty_async_io::getty_driver::rpc::*;

use getty_async_io::getty_driver::core::rpc::Frame;
use getty_async_io::getty_driver::{Items, Listener, ListenerFactory};

use crate::AsyncStd;

/// Makes a [`Caller`] of `services` without a socket, for tests of services, and the future that drives the
/// connection. See [`getty_async_io::getty_driver::rpc::in_memory`].
///
/// ```
/// use getty_async_std::rpc::{self, Raw, Services, Status};
///
/// async_std::task::block_on(async {
///     let services = Services::new()
///         .method("greet.Greeter/Hello", Raw, |_call, name: String| async move {
///             Ok::<_, Status>(format!("Hello, {name}"))
///         });
///     let (caller, driving) = rpc::in_memory(services);
///     async_std::task::spawn(driving);
///     let greeting: String = caller.call("greet.Greeter/Hello", Raw, "Ann").await.unwrap();
///     assert_eq!(greeting, "Hello, Ann");
/// });
/// ```
pub fn in_memory(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (Caller, impl Future<Output = ()>) {
    getty_async_io::getty_driver::rpc::in_memory::<AsyncStd>(services)
}

/// Makes a [`Caller`] of `services` that serves `own` itself, for tests of handlers that call back. See
/// [`getty_async_io::getty_driver::rpc::in_memory_with`].
pub fn in_memory_with(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
    own: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (Caller, impl Future<Output = ()>) {
    getty_async_io::getty_driver::rpc::in_memory_with::<AsyncStd>(services, own)
}

/// Makes this end of the connections of a pool, and a [`Caller`] for calls over all of them. See
/// [`getty_async_io::getty_driver::rpc::peers`].
pub fn peers(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (impl ListenerFactory<Items<Frame>, Listener = impl Listener<Items<Frame>>>, Caller) {
    getty_async_io::getty_driver::rpc::peers::<AsyncStd>(services)
}
