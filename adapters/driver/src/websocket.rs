//! WebSocket endpoints: servers with paths, and clients.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use getty_core::websocket::{
    ClientRequest, Form, Message, Request, Response, ServerOptions, Verdict, WebSocket, Whole,
};
use getty_core::{CloseReason, Idle, Items, Messages, Opened, Out, SendError, Seq, Stats, StreamProtocol};

use crate::{
    AcceptTask, ClientBuilder, Connection, Context, Covered, Driver, Handle, Listener, MakeProtocol, Refuse,
    Runtime, Security, Server, ServerBuilder, Spawn, TcpIncoming,
};

impl<R: Runtime, S, T: Security> ServerBuilder<R, S, T> {
    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) for WebSocket clients, and gives each a
    /// session of whole messages with the listener that the function makes. `options` say who is let in; the
    /// listener has its say in [`Listener::on_request`]. For several paths, see [`Paths`].
    ///
    /// Of a name with several addresses, the first that works is listened on, and no other; see
    /// [`tcp`](Self::tcp).
    ///
    /// # Errors
    /// The address can't be resolved, or not be listened on; the error names it.
    pub async fn websocket<L, ML>(
        self,
        address: &str,
        options: impl Into<Arc<ServerOptions>>,
        listener: ML,
    ) -> io::Result<Server<R>>
    where
        ML: Fn() -> L,
        L: Listener<Items<Message>>,
        S: Spawn<AcceptTask<R, TcpIncoming<R>, S, Covered<T, WebSockets<fn() -> Whole>>, ML>>
            + Spawn<Driver<R, R::TcpStream, T::Over<WebSocket>, L>>
            + Clone,
    {
        let form: fn() -> Whole = || Whole;
        self.serve_tcp(address, WebSockets { form, options: options.into() }, listener).await
    }

    /// The same for messages of another form: the packages of a codec, `|| Packages::new(codec)`, so that a listener for
    /// [`tcp`](Self::tcp) serves it unchanged; or parts as they come, `|| Parts`.
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    pub async fn websocket_of<F, L, MF, ML>(
        self,
        address: &str,
        options: impl Into<Arc<ServerOptions>>,
        form: MF,
        listener: ML,
    ) -> io::Result<Server<R>>
    where
        MF: Fn() -> F,
        ML: Fn() -> L,
        F: Form,
        WebSocket<F>: StreamProtocol<Messages = F::Messages>,
        L: Listener<F::Messages>,
        S: Spawn<AcceptTask<R, TcpIncoming<R>, S, Covered<T, WebSockets<MF>>, ML>>
            + Spawn<Driver<R, R::TcpStream, T::Over<WebSocket<F>>, L>>
            + Clone,
    {
        self.serve_tcp(address, WebSockets { form, options: options.into() }, listener).await
    }
}

/// Makes sessions of WebSocket. It appears in bounds of [`ServerBuilder`]'s methods only.
#[derive(Debug)]
pub struct WebSockets<MF> {
    form: MF,
    options: Arc<ServerOptions>,
}

impl<MF, F> MakeProtocol for WebSockets<MF>
where
    MF: Fn() -> F,
    F: Form,
    WebSocket<F>: StreamProtocol,
{
    type Protocol = WebSocket<F>;

    fn make(&self) -> io::Result<WebSocket<F>> {
        Ok(WebSocket::server_of((self.form)(), self.options.clone()))
    }
}

impl<R: Runtime, S, T: Security> ClientBuilder<R, S, T> {
    /// Connects to a WebSocket server and spawns a session with `listener`. What is posted to the handle before the
    /// session is open waits; [`Listener::on_open`] tells when it is, and [`Listener::on_close`] if it never is.
    ///
    /// # Errors
    /// The address can't be resolved or connected to in time; the error names it. [`io::ErrorKind::InvalidInput`] if the
    /// request is a `wss` one and there is no `ClientBuilder::tls`, or the other way round.
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn websocket<L>(self, request: ClientRequest, listener: L) -> io::Result<Handle<Message>>
    where
        L: Listener<Items<Message>>,
        S: Spawn<Driver<R, R::TcpStream, T::Over<WebSocket>, L>>,
    {
        let (host, address) = (request.host().to_owned(), address::<T>(&request)?);
        let protocol = WebSocket::client(request, system_random);
        let protocol = self.security.cover(&host, protocol)?;
        let stream = self.connect_tcp(&address).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// The same for messages of another form: [`Packages`](getty_core::websocket::Packages) of a codec, or
    /// [`Parts`](getty_core::websocket::Parts).
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn websocket_of<F, L>(
        self,
        request: ClientRequest,
        form: F,
        listener: L,
    ) -> io::Result<Handle<Out<WebSocket<F>>>>
    where
        F: Form,
        WebSocket<F>: StreamProtocol<Messages = F::Messages>,
        L: Listener<F::Messages>,
        S: Spawn<Driver<R, R::TcpStream, T::Over<WebSocket<F>>, L>>,
    {
        let (host, address) = (request.host().to_owned(), address::<T>(&request)?);
        let protocol = WebSocket::client_of(form, request, system_random);
        let protocol = self.security.cover(&host, protocol)?;
        let stream = self.connect_tcp(&address).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// Connects to a WebSocket server and gives a [`Connection`], from which messages are pulled; no task is spawned.
    /// The handshake is done when [`Connection::opened`] says so; what is fed before waits for it.
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn websocket_connection(
        self,
        request: ClientRequest,
    ) -> io::Result<Connection<R, R::TcpStream, T::Over<WebSocket>>> {
        let (host, address) = (request.host().to_owned(), address::<T>(&request)?);
        let protocol = WebSocket::client(request, system_random);
        let protocol = self.security.cover(&host, protocol)?;
        let stream = self.connect_tcp(&address).await?;
        Ok(self.connection(stream, protocol))
    }

    /// The same for messages of another form: [`Packages`](getty_core::websocket::Packages) of a codec, or
    /// [`Parts`](getty_core::websocket::Parts).
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn websocket_connection_of<F>(
        self,
        request: ClientRequest,
        form: F,
    ) -> io::Result<Connection<R, R::TcpStream, T::Over<WebSocket<F>>>>
    where
        F: Form,
        WebSocket<F>: StreamProtocol,
    {
        let (host, address) = (request.host().to_owned(), address::<T>(&request)?);
        let protocol = WebSocket::client_of(form, request, system_random);
        let protocol = self.security.cover(&host, protocol)?;
        let stream = self.connect_tcp(&address).await?;
        Ok(self.connection(stream, protocol))
    }
}

/// Where to connect for a request, for which there are random bytes.
pub(crate) fn address<T: Security>(request: &ClientRequest) -> io::Result<String> {
    POOL.with_borrow_mut(|pool| fill_pool(pool, HANDSHAKE_KEY))?;
    if request.is_secure() != T::IS_SECURE {
        let text = if T::IS_SECURE {
            "the client has TLS (ClientBuilder::tls), but the URL is a ws one: use wss"
        } else {
            "the URL is a wss one: give the client TLS (ClientBuilder::tls, with the feature `tls`)"
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let (host, port) = (request.host(), request.port());
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// Bytes of the key of an opening handshake.
const HANDSHAKE_KEY: usize = 16;

/// How many random bytes are asked for at a time.
const RANDOM_POOL: usize = 1024;

thread_local! {
    /// Random bytes in store, so that not each mask is a system call. The used ones are cut off.
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sees to it that `wanted` random bytes are in store.
fn fill_pool(pool: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
    if pool.len() < wanted {
        let mut fresh = vec![0; RANDOM_POOL.max(wanted)];
        getrandom::fill(&mut fresh).map_err(|error| io::Error::other(format!("no random bytes: {error}")))?;
        *pool = fresh;
    }
    Ok(())
}

/// Fills `out` with the system's random bytes: what [`WebSocket::client`] asks for, whoever drives the session.
///
/// # Panics
/// If the system has none. That ends the session, as a panic of its codec does: a mask that can be guessed is worse than
/// none. The clients of this crate make sure that there are some before they begin.
pub fn system_random(out: &mut [u8]) {
    POOL.with_borrow_mut(|pool| {
        fill_pool(pool, out.len()).expect("the system had random bytes when the session began");
        let rest = pool.len() - out.len();
        out.copy_from_slice(&pool[rest..]);
        pool.truncate(rest);
    });
}

/// Several paths on one port, each with listeners of its own. Other paths are answered with 404.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use getty_driver::{Context, Items, Listener, Paths, Runtime, Server, ServerBuilder, core::websocket::*};
/// # struct Echo;
/// # impl Listener<Items<Message>> for Echo {
/// #     fn on_message(&mut self, _: &mut Context<'_, Items<Message>>, _: Message) {}
/// # }
/// # struct Chat(Arc<str>);
/// # impl Listener<Items<Message>> for Chat {
/// #     fn on_message(&mut self, _: &mut Context<'_, Items<Message>>, _: Message) {}
/// # }
/// let room: Arc<str> = "lobby".into();
/// let paths = Paths::new().path("/echo", || Echo).path("/chat", move || Chat(room.clone()));
/// let listeners = paths.into_listeners(); // for ServerBuilder::websocket
/// # let _ = listeners();
/// ```
pub struct Paths<M>(Vec<(String, MakeListener<M>)>);

type AnyListener<M> = Box<dyn Listener<M> + Send>;
type MakeListener<M> = Box<dyn Fn() -> AnyListener<M> + Send + Sync>;

impl<M: Messages + 'static> Paths<M> {
    /// No path yet.
    pub fn new() -> Self {
        Paths(Vec::new())
    }

    /// Sessions that ask for `path` (as it stands in the request, without the query) get a listener from `listener`.
    #[must_use]
    pub fn path<L>(mut self, path: &str, listener: impl Fn() -> L + Send + Sync + 'static) -> Self
    where
        L: Listener<M> + Send,
    {
        self.0.push((path.to_owned(), Box::new(move || Box::new(listener()))));
        self
    }

    /// What makes the listeners of a server.
    pub fn into_listeners(self) -> impl Fn() -> PathListener<M> + Send + Sync + Clone {
        let paths = Arc::new(self);
        move || PathListener { paths: paths.clone(), chosen: None }
    }
}

impl<M: Messages + 'static> Default for Paths<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> fmt::Debug for Paths<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(path, _)| path)).finish()
    }
}

/// A listener that becomes that of a path when the request comes.
pub struct PathListener<M> {
    paths: Arc<Paths<M>>,
    chosen: Option<AnyListener<M>>,
}

impl<M> fmt::Debug for PathListener<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathListener").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<M: Messages + 'static> Listener<M> for PathListener<M> {
    fn on_request(&mut self, cx: &mut Context<'_, M>, request: &Request) -> Verdict {
        let Some((_, make)) = self.paths.0.iter().find(|(path, _)| path == request.path()) else {
            return Response::new(404).map_or(Verdict::Later, Verdict::Respond);
        };
        self.chosen.insert(make()).on_request(cx, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_, M>, opened: &Opened) -> Result<(), Refuse> {
        self.chosen.as_mut().map_or(Ok(()), |listener| listener.on_open(cx, opened))
    }

    fn on_message(&mut self, cx: &mut Context<'_, M>, message: M::In) {
        if let Some(listener) = &mut self.chosen {
            listener.on_message(cx, message);
        }
    }

    fn on_messages(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_messages(cx);
        }
    }

    fn on_cron(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_cron(cx);
        }
    }

    fn on_idle(&mut self, cx: &mut Context<'_, M>, idle: Idle) {
        if let Some(listener) = &mut self.chosen {
            listener.on_idle(cx, idle);
        }
    }

    fn on_pong(&mut self, cx: &mut Context<'_, M>, rtt: Duration) {
        if let Some(listener) = &mut self.chosen {
            listener.on_pong(cx, rtt);
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_writable(cx);
        }
    }

    fn on_flushed(&mut self, cx: &mut Context<'_, M>, seq: Seq) {
        if let Some(listener) = &mut self.chosen {
            listener.on_flushed(cx, seq);
        }
    }

    fn on_send_error(&mut self, cx: &mut Context<'_, M>, error: SendError<M::Out>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_send_error(cx, error);
        }
    }

    fn on_read_end(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_read_end(cx);
        }
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_shutdown(cx);
        }
    }

    fn on_close(&mut self, reason: &CloseReason, stats: &Stats) {
        if let Some(listener) = &mut self.chosen {
            listener.on_close(reason, stats);
        }
    }
}
