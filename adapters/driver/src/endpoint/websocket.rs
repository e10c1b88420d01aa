//! WebSocket clients: connecting to what a URL says.

use std::io;

use getty_core::Out;
use getty_core::websocket::{ClientRequest, Form, WebSocket};

use crate::drive::connection::Connection;
use crate::drive::driver::Driver;
use crate::endpoint::client::ClientBuilder;
use crate::endpoint::security::Security;
use crate::runtime::random::{check_random, system_random};
use crate::runtime::{Runtime, Spawn};
use crate::session::handle::Handle;
use crate::session::listener::Listener;

impl<R: Runtime, S, T: Security> ClientBuilder<R, S, T> {
    /// Connects to a WebSocket server and spawns a session with `listener`. Its messages have the form
    /// `form`: [`Whole`](getty_core::websocket::Whole) ones, [`Packages`](getty_core::websocket::Packages) of
    /// a codec, or [`Parts`](getty_core::websocket::Parts). What is posted to the handle before the session
    /// is open waits; [`Listener::on_open`] tells when it is, and [`Listener::on_close`] if it never is.
    ///
    /// # Errors
    /// The address can't be resolved or connected to in time; the error names it.
    /// [`io::ErrorKind::InvalidInput`] if the request is a `wss` one and there is no `ClientBuilder::tls`, or
    /// the other way round.
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn websocket<F, L>(
        self,
        request: ClientRequest,
        form: F,
        listener: L,
    ) -> io::Result<Handle<Out<WebSocket<F>>>>
    where
        F: Form,
        L: Listener<F::Messages>,
        S: Spawn<Driver<R, R::TcpStream, T::Wrapped<WebSocket<F>>, L>>,
    {
        let address = address(&request, self.settings.security.is_secure())?;
        let protocol = self.open_websocket(request, form)?;
        let stream = self.connect_tcp(&address).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// Connects to a WebSocket server and gives a [`Connection`], from which messages are pulled, in the form
    /// `form`, as for [`websocket`](Self::websocket); no task is spawned. The handshake is done when
    /// [`Connection::opened`] says so; what is fed before waits for it.
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn websocket_connection<F: Form>(
        self,
        request: ClientRequest,
        form: F,
    ) -> io::Result<Connection<R, R::TcpStream, T::Wrapped<WebSocket<F>>>> {
        let address = address(&request, self.settings.security.is_secure())?;
        let protocol = self.open_websocket(request, form)?;
        let stream = self.connect_tcp(&address).await?;
        Ok(self.connection(stream, protocol))
    }

    fn open_websocket<F: Form>(
        &self,
        request: ClientRequest,
        form: F,
    ) -> io::Result<T::Wrapped<WebSocket<F>>> {
        let layer = self.settings.security.layer(request.host())?;
        Ok(T::wrap(layer, WebSocket::client_of(form, request, system_random)))
    }
}

/// Where to connect for a request, for which there are random bytes.
pub(crate) fn address(request: &ClientRequest, is_secure: bool) -> io::Result<String> {
    check_random()?;
    if request.is_secure() != is_secure {
        let text = if is_secure {
            "the client has TLS (ClientBuilder::tls), but the URL is a ws one: use wss"
        } else {
            "the URL is a wss one: give the client TLS (ClientBuilder::tls, with the feature `tls`)"
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(host_and_port(request))
}

/// `HOST:PORT` of a request.
pub(crate) fn host_and_port(request: &ClientRequest) -> String {
    let (host, port) = (request.host(), request.port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
