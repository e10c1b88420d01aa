//! [`in_memory`]: services and a caller in one process, without a socket.

use std::future::Future;

use crate::drive::joined::joined;
use crate::rpc::caller::Caller;
use crate::rpc::dispatch::Dispatch;
use crate::rpc::frames;
use crate::rpc::layer::Layers;
use crate::rpc::services::{Services, peer};
use crate::runtime::Runtime;

/// Makes a [`Caller`] of `services` without a socket, for tests of services, and the future that drives the
/// connection: spawn it, or poll it beside the test.
///
/// The connection is a real one, with two sessions, over a pipe in memory that holds 64 KiB in each
/// direction. What holds over a socket holds here: frames and limits, the back-pressure of streams,
/// deadlines, layers, [`Services::on_connect`], [`Services::max_age`], and a handler's panic, which ends its
/// call alone. Both ends have the default [`core::Config`](crate::core::Config). There are no addresses and
/// there is no TLS, so [`Call::peer_addr`](super::Call::peer_addr) is `None`, for example.
///
/// The caller serves nothing: a handler that [calls back](super::Call::peer) gets
/// [`Unimplemented`](super::Code::Unimplemented). [`in_memory_with`] tests those.
///
/// The future ends once the last caller is dropped and no call is open, and when the services close or
/// refuse the connection. Dropping it ends the calls that are open, as the loss of a connection does. It is
/// `Send` if the handlers and the timers of `R` are. `R` gives the clock: with tokio's paused one, deadlines
/// pass in virtual time. The runtime adapters have this function without the parameter:
/// `getty_tokio::rpc::in_memory(services)`.
///
/// ```
/// use getty_driver::Runtime;
/// use getty_driver::rpc::{self, Raw, Services, Status};
///
/// async fn greets<R: Runtime>() -> Result<(), Status> {
///     let services = Services::new()
///         .method("greet.Greeter/Hello", Raw, |_call, name: String| async move {
///             Ok::<_, Status>(format!("Hello, {name}"))
///         });
///     let (caller, driving) = rpc::in_memory::<R>(services);
/// #   fn spawn(_: impl Future<Output = ()> + 'static) {}
///     spawn(driving);
///     let greeting: String = caller.call("greet.Greeter/Hello", Raw, "Ann").await?;
///     assert_eq!(greeting, "Hello, Ann");
///     Ok(())
/// }
/// ```
pub fn in_memory<R: Runtime>(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (Caller, impl Future<Output = ()>) {
    in_memory_with::<R>(services, Services::new())
}

/// Makes a [`Caller`] of `services` that serves `own` itself, for tests of handlers that
/// [call back](super::Call::peer). Otherwise the same as [`in_memory`].
///
/// With a method in `own` the connection stays when the last caller is dropped, as over a socket: the other
/// side may still call. Then the future ends only when the services close the connection.
pub fn in_memory_with<R: Runtime>(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
    own: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (Caller, impl Future<Output = ()>) {
    let (near, caller) = peer(own);
    (caller, joined::<R, _, _, _>(frames, near, services.listener()))
}
