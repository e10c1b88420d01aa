//! [`Connected`]: a connection for calls.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use getty_driver::core::rpc::{Frame, PeerFault};
use getty_driver::core::{CloseReason, Config};
use getty_driver::rpc::{self, Caller, Code, Executed, Origin, Services, Status};
use getty_driver::tls::ClientTls;
use getty_driver::{ClientBuilder, Handle, Items, Listener};
use tokio::sync::watch;

use super::NEEDS_STREAM;
use crate::explain::{explain_at_client, explain_unopened, with_causes};
use crate::runtime::{BuiltIn, Spawner, client, sleep_until};
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest time to close a connection.
const CLOSE: Duration = Duration::from_secs(1);

/// What it takes to connect.
#[derive(Debug, Clone)]
pub struct Destination {
    pub url: Url,
    pub config: Arc<Config>,
    /// The limits of calls.
    pub limits: Arc<rpc::Config>,
    pub websocket: WebSocketOptions,
    pub tls: Option<ClientTls>,
}

/// An open connection.
pub struct Connected {
    pub caller: Caller,
    /// Whether WebSocket messages are compressed.
    pub compresses: bool,
    handle: Handle<Frame>,
    transport: Transport,
}

impl Destination {
    /// Connects, and waits until the session is open.
    ///
    /// # Errors
    /// Why it did not open, or not in time.
    pub async fn connect<R: BuiltIn>(&self, timeout: Option<Duration>) -> Result<Connected, Status> {
        let failed = |code, text| Status::new(code, text).with_executed(Executed::No);
        let late = timeout.map(|timeout| Instant::now() + timeout);
        let (open, mut opened) = watch::channel(None);
        let services = Services::new().config(self.limits.clone()).on_connect(move |_, opening| {
            let upgrade = opening.opened().upgrade.as_ref();
            open.send_replace(Some(upgrade.is_some_and(|upgrade| upgrade.deflate().is_some())));
            Ok(())
        });
        let (peer, caller) = rpc::peer(services);
        let client = client::<R>().config(self.config.clone()).maybe_tls(self.tls.clone());
        let client = client.connect_timeout(timeout.map_or(CONNECT, |timeout| timeout.min(CONNECT)));
        let transport = self.url.transport;
        let handle =
            self.start(client, peer).await.map_err(|error| failed(Code::Unavailable, with_causes(&error)))?;
        tokio::select! {
            biased;
            Ok(compresses) = opens(&mut opened) => Ok(Connected { caller, compresses, handle, transport }),
            reason = handle.closed() => Err(failed(Code::Unavailable, explain_unopened(&reason, transport))),
            () = at::<R>(late) => {
                Err(failed(Code::DeadlineExceeded, "the handshake was not done in time".to_owned()))
            }
        }
    }

    async fn start<R, L>(
        &self,
        client: ClientBuilder<R, Spawner<R>, Option<ClientTls>>,
        listener: L,
    ) -> anyhow::Result<Handle<Frame>>
    where
        R: BuiltIn,
        L: Listener<Items<Frame>> + Send,
    {
        let address = self.url.address();
        Ok(match self.url.transport {
            Transport::Tcp | Transport::Tls => client.tcp(address, rpc::frames(), listener).await?,
            #[cfg(unix)]
            Transport::Unix => client.unix(address, rpc::frames(), listener).await?,
            Transport::Udp => bail!("{NEEDS_STREAM}"),
            Transport::WebSocket | Transport::SecureWebSocket => {
                let request = self.websocket.request(&self.url)?;
                client.websocket(request, rpc::packages(), listener).await?
            }
        })
    }
}

impl Connected {
    /// Explains the end of the connection, if that is why a call has failed.
    pub async fn explain(&self, status: Status) -> Status {
        if status.origin() != Origin::Local || status.code() != Code::Unavailable || !self.caller.is_closed()
        {
            return status;
        }
        let reason = self.handle.closed().await;
        let mut text = explain_at_client(&reason, self.transport);
        if self.is_about_the_protocol(&reason) {
            text += ": does the peer speak getty rpc 2?";
        }
        Status::new(status.code(), text).with_executed(status.executed())
    }

    /// Whether the connection may have ended because the peer speaks another protocol.
    fn is_about_the_protocol(&self, reason: &CloseReason) -> bool {
        match reason {
            CloseReason::Codec(error) => matches!(
                error.downcast_ref(),
                Some(
                    PeerFault::NoHello
                        | PeerFault::SecondHello
                        | PeerFault::Id { .. }
                        | PeerFault::RequestOpen(_)
                        | PeerFault::NotOpen(_)
                        | PeerFault::Frame(_)
                )
            ),
            CloseReason::Eof { .. } | CloseReason::Io(_) => self.handle.stats().received.messages == 0,
            _ => false,
        }
    }

    /// Closes the connection once no call is left, but waits only briefly.
    pub async fn close<R: BuiltIn>(self) {
        drop(self.caller);
        tokio::select! {
            _ = self.handle.closed() => {}
            () = sleep_until::<R>(Instant::now() + CLOSE) => {}
        }
    }
}

/// Waits until a session opens, and returns whether it compresses messages.
async fn opens(opened: &mut watch::Receiver<Option<bool>>) -> Result<bool, watch::error::RecvError> {
    Ok(opened.wait_for(Option::is_some).await?.unwrap_or_default())
}

/// Waits for a time, forever for none.
async fn at<R: BuiltIn>(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until::<R>(time).await,
        None => pending().await,
    }
}
