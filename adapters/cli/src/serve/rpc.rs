//! `getty serve --rpc`: services over every transport that has RPC.

use std::sync::Arc;
use std::task;
use std::time::{Duration, Instant};

use getty_driver::core::datagram::Dropped;
use getty_driver::core::rpc::{Frame, Request as CallRequest};
use getty_driver::core::websocket::{Request, Verdict, WebSocket};
use getty_driver::core::{Close, CloseReason, Idle, Opened, SendError, Seq};
use getty_driver::rpc::health::Health;
use getty_driver::rpc::reflection::Reflection;
use getty_driver::rpc::{Services, frames, packages};
use getty_driver::{Context, Items, Listener, Refuse};

use super::echo::{EchoServer, Server};
use super::page::Site;
use super::totals::Totals;
use crate::rpc;
use crate::runtime::BuiltIn;
use crate::url::Transport;

impl EchoServer {
    /// Starts the server with services instead of messages.
    pub(super) async fn start_rpc<R: BuiltIn>(self, health: &Health) -> anyhow::Result<Server<R>> {
        let transport = self.url.transport;
        health.set(rpc::echo::SERVICE, true);
        let services = Services::new()
            .add(rpc::echo::service::<R>())
            .add(health.service())
            .add(Reflection::new().service())
            .config(rpc::limits(self.codec.size)?);
        let site = transport.is_websocket().then(|| Site::of_rpc(self.url.path())).transpose()?.map(Arc::new);
        let totals = self.totals.clone();
        let listener = move || Counted {
            inner: services.listener(),
            transport,
            site: site.clone(),
            totals: totals.clone(),
        };
        let (builder, address) = (self.builder::<R>(), self.url.address());
        Ok(match transport {
            Transport::Tcp | Transport::Tls => Server::Port(builder.tcp(address, frames, listener).await?),
            #[cfg(unix)]
            Transport::Unix => Server::Path(builder.unix(address, frames, listener)?),
            Transport::Udp => anyhow::bail!("{}", rpc::NEEDS_STREAM),
            Transport::WebSocket | Transport::SecureWebSocket => {
                let options = self.websocket.server(self.origin);
                let protocol = WebSocket::serving_of(packages, options);
                Server::Port(builder.tcp(address, protocol, listener).await?)
            }
        })
    }
}

/// The listener of an RPC session, with the paths and statistics of the server.
struct Counted<L> {
    inner: L,
    transport: Transport,
    /// The paths served over WebSocket.
    site: Option<Arc<Site>>,
    /// The statistics to update, if wanted.
    totals: Option<Arc<Totals>>,
}

type Session<'a> = Context<'a, Items<Frame>>;

impl<L: Listener<Items<Frame>>> Listener<Items<Frame>> for Counted<L> {
    fn on_request(&mut self, cx: &mut Session<'_>, request: &Request) -> Verdict {
        match self.site.as_ref().map(|site| site.answer(request)) {
            Some(Verdict::Accept(_)) | None => self.inner.on_request(cx, request),
            Some(verdict) => verdict,
        }
    }

    fn on_open(&mut self, cx: &mut Session<'_>, opened: &Opened) -> Result<(), Refuse> {
        if let Some(totals) = &self.totals {
            totals.count_opened();
        }
        self.inner.on_open(cx, opened)
    }

    fn on_message(&mut self, cx: &mut Session<'_>, frame: Frame) {
        self.inner.on_message(cx, frame);
    }

    fn on_messages(&mut self, cx: &mut Session<'_>) {
        let Some(totals) = &self.totals else { return self.inner.on_messages(cx) };
        let (mut messages, mut bytes) = (0, 0);
        while let Some(frame) = cx.next_message() {
            if let Frame::Request(_, CallRequest { body, .. }) | Frame::Item(_, body) = &frame {
                messages += 1;
                bytes += body.bytes.len() as u64;
            }
            self.inner.on_message(cx, frame);
        }
        totals.count_messages(messages, bytes);
    }

    fn on_cron(&mut self, cx: &mut Session<'_>) {
        self.inner.on_cron(cx);
    }

    fn on_idle(&mut self, cx: &mut Session<'_>, idle: Idle) {
        self.inner.on_idle(cx, idle);
        cx.close(Close::idle(idle));
    }

    fn on_pong(&mut self, cx: &mut Session<'_>, rtt: Duration) {
        self.inner.on_pong(cx, rtt);
    }

    fn on_writable(&mut self, cx: &mut Session<'_>) {
        self.inner.on_writable(cx);
    }

    fn on_flushed(&mut self, cx: &mut Session<'_>, seq: Seq) {
        self.inner.on_flushed(cx, seq);
    }

    fn on_turn(&mut self, cx: &mut Session<'_>, task: &mut task::Context<'_>) -> Option<Instant> {
        self.inner.on_turn(cx, task)
    }

    fn on_send_error(&mut self, cx: &mut Session<'_>, error: SendError<Frame>) {
        self.inner.on_send_error(cx, error);
    }

    fn on_dropped(&mut self, cx: &mut Session<'_>, dropped: &Dropped) {
        self.inner.on_dropped(cx, dropped);
    }

    fn on_eof(&mut self, cx: &mut Session<'_>) {
        self.inner.on_eof(cx);
    }

    fn on_shutdown(&mut self, cx: &mut Session<'_>) {
        self.inner.on_shutdown(cx);
    }

    fn on_close(&mut self, cx: &mut Session<'_>, reason: &CloseReason) {
        if let Some(totals) = &self.totals {
            totals.count_closed(self.transport, cx.was_opened(), reason, &cx.stats());
        }
        self.inner.on_close(cx, reason);
    }
}
