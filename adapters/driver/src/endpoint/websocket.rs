//! WebSocket clients: connecting to the server of a URL.

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
    /// `form`: [`Whole`](getty_core::websocket::Whole), [`Packages`](getty_core::websocket::Packages) of a
    /// codec, or [`Parts`](getty_core::websocket::Parts). Items posted to the handle before the session is
    /// open wait. [`Listener::on_open`] is called once it is open, or [`Listener::on_close`] if it never
    /// opens.
    ///
    /// # Errors
    /// The address cannot be resolved or connected to in time; the error names it.
    /// [`io::ErrorKind::InvalidInput`] for a `wss` request without `ClientBuilder::tls`, or the other way
    /// round.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
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

    /// Connects to a WebSocket server and returns a [`Connection`], from which messages of the form `form`
    /// are pulled, as for [`websocket`](Self::websocket). No task is spawned. The handshake is done once
    /// [`Connection::opened`] has returned; items fed before that wait for it.
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
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

/// The `HOST:PORT` to connect to for a request. Checks that its scheme fits, and that random bytes are
/// available.
pub(crate) fn address(request: &ClientRequest, is_secure: bool) -> io::Result<String> {
    check_random()?;
    if request.is_secure() != is_secure {
        let text = if is_secure {
            "the client uses TLS (ClientBuilder::tls), but the URL begins with ws: use wss"
        } else {
            "the URL begins with wss, but the client does not use TLS: set ClientBuilder::tls (feature `tls`)"
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
