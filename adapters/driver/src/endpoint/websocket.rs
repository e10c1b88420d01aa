//! WebSocket endpoints: servers and clients.

use std::io;
use std::sync::Arc;

use getty_core::websocket::{ClientRequest, Form, Message, ServerOptions, WebSocket, Whole};
use getty_core::{Items, Out, StreamProtocol};

use crate::drive::connection::Connection;
use crate::drive::driver::Driver;
use crate::endpoint::accept::AcceptTask;
use crate::endpoint::client::ClientBuilder;
use crate::endpoint::factory::{Covered, MakeProtocol};
use crate::endpoint::incoming::TcpIncoming;
use crate::endpoint::security::Security;
use crate::endpoint::server::{Server, ServerBuilder};
use crate::runtime::random::{check_random, system_random};
use crate::runtime::{Runtime, Spawn};
use crate::session::handle::Handle;
use crate::session::listener::Listener;

impl<R: Runtime, S, T: Security> ServerBuilder<R, S, T> {
    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) for WebSocket clients, and gives each a
    /// session of whole messages with the listener that the function makes. `options` say who is let in; the
    /// listener has its say in [`Listener::on_request`]. For several paths, see [`Paths`](crate::Paths).
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
    check_random()?;
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
