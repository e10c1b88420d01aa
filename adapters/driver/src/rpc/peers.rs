//! [`peers`]: this end of the connections of a pool, and calls over all of them.

use std::sync::Arc;

use getty_core::Items;
use getty_core::rpc::{Frame, Side};

use crate::endpoint::factory::ListenerFactory;
use crate::endpoint::wait::Waits;
use crate::rpc::caller::Caller;
use crate::rpc::dispatch::Dispatch;
use crate::rpc::layer::Layers;
use crate::rpc::mailbox::Mailbox;
use crate::rpc::services::Services;
use crate::rpc::team::{Source, Team};
use crate::session::listener::Listener;

/// Makes this end of the connections of a [`Pool`](crate::Pool): a function that makes a listener for each
/// session, and a [`Caller`] for calls over all of them. Give the function to one pool.
///
/// ```no_run
/// use getty_driver::rpc::{self, Raw, Services};
/// use getty_driver::{Client, PoolOptions, Runtime};
///
/// # #[derive(Clone, Default)]
/// # struct Nobody;
/// # impl<F> getty_driver::Spawn<F> for Nobody { fn spawn(&self, _: F) {} }
/// # async fn f<R: Runtime<Timer: Send>>() -> Result<(), Box<dyn std::error::Error>> {
/// let (peers, caller) = rpc::peers::<R>(Services::new());
/// # let spawner = Nobody;
/// let client = Client::<R>::builder().spawner(spawner).pool(PoolOptions::new().sessions(2));
/// let pool = client.tcp(["one.example:7000", "two.example:7000"], rpc::frames, peers)?;
/// let answer: String = caller.call("test.Echo/Echo", Raw, "hello").await?;
/// # drop(pool);
/// # Ok(()) }
/// ```
///
/// # Where a call goes
/// To one of the sessions that are open and not leaving: of two, which are others each time, the one whose
/// peer takes another call at once, or else the one with fewer calls.
///
/// If none is open, the call waits. It ends with [`DeadlineExceeded`](super::Code::DeadlineExceeded) at its
/// deadline, or without one with [`Unavailable`](super::Code::Unavailable) after
/// [`Caller::with_connect_timeout`] (10 s), not executed. As many calls wait as for one connection
/// ([`ConfigBuilder::max_waiting`](super::ConfigBuilder::max_waiting): 1024, and 16 MiB); one more is refused
/// at once ([`ResourceExhausted`](super::Code::ResourceExhausted), not executed). Once the pool is closed or
/// dropped and its sessions have ended, no call waits any longer (`Unavailable`, not executed). A call that
/// waits uses a timer of `R`: where timers belong to tasks of the runtime, as those of tokio do, poll it in
/// one.
///
/// # Moving
/// A call that was [not executed](super::Executed::No) because its session ended or goes away, or that was
/// refused by a limit or as unavailable, moves to another session, with what is left of its time and an
/// [attempt](super::Call::attempt) more. It moves at most 3 times, after a refusal by a limit once, and to a
/// session that has refused it only if no other is open. A session that is open and alone has the last word.
/// Calls with one value move, those for a stream until their first item; calls that send a stream stay where
/// they are. What was perhaps executed is never repeated.
///
/// # Without callers
/// When the last caller is dropped, no call is open and there are no services, the sessions that are open go
/// away, as one alone does. The pool puts others in their place, which stay idle: drop the pool too.
///
/// Handlers that call back ([`Call::peer`](super::Call::peer)) stay on their own connection.
pub fn peers<R: Waits>(
    services: Services<impl Dispatch + 'static, impl Layers + 'static>,
) -> (impl ListenerFactory<Items<Frame>, Listener = impl Listener<Items<Frame>>>, Caller) {
    let config = services.limits().clone();
    let team = Team::new(R::wait, &config);
    let caller = Caller::of_team(team.clone());
    let source = Arc::new(Source::new(team));
    let listener = move || services.end_in(Side::Connecting, Mailbox::new(&config), Some(source.clone()));
    (listener, caller)
}
