//! [`Dial`]: connects a pool over each transport.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use getty_core::Protocol;
#[cfg(feature = "websocket")]
use getty_core::websocket::{ClientRequest, Form, WebSocket};

use super::addresses::Target;
use crate::endpoint::connect::ConnectTcp;
#[cfg(unix)]
use crate::endpoint::connect::ConnectUnix;
use crate::endpoint::factory::ProtocolFactory;
use crate::endpoint::resolve::host;
use crate::endpoint::security::Security;
#[cfg(feature = "websocket")]
use crate::endpoint::websocket;
use crate::runtime::Runtime;
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::io::Io;
#[cfg(feature = "websocket")]
use crate::runtime::random::system_random;
#[cfg(unix)]
use crate::socket::address::AddressError;
use crate::socket::tcp::TcpOptions;
#[cfg(unix)]
use crate::socket::unix;

/// Connects the sessions of a [`Pool`](crate::Pool). It appears only in bounds of
/// [`PoolBuilder`](crate::PoolBuilder)'s methods.
pub trait Dial {
    /// An address to connect to.
    type Address: Target;
    /// A connection.
    type Stream: Io;
    /// The protocol of a session.
    type Protocol: Protocol;
    /// An attempt to connect.
    type Connecting: Future<Output = io::Result<Self::Stream>> + Unpin;

    /// Checks an address as far as possible without connecting.
    ///
    /// # Errors
    /// The address can never be connected to.
    fn check(&self, address: &Self::Address) -> io::Result<()>;

    /// Starts an attempt to connect.
    fn connect(&self, address: &Self::Address) -> Self::Connecting;

    /// Makes the protocol of the next session.
    ///
    /// # Errors
    /// The protocol cannot be made, and the attempt has failed.
    fn protocol(&self, address: &Self::Address) -> io::Result<Self::Protocol>;
}

/// Connects over TCP. It appears only in bounds.
#[derive(Debug)]
pub struct DialTcp<R, T, F> {
    pub(super) timeout: Duration,
    pub(super) options: TcpOptions,
    pub(super) security: T,
    pub(super) protocol: F,
    pub(super) runtime: PhantomData<fn(R)>,
}

impl<R: Runtime, T: Security, F: ProtocolFactory> Dial for DialTcp<R, T, F> {
    type Address = String;
    type Stream = R::TcpStream;
    type Protocol = T::Wrapped<F::Protocol>;
    type Connecting = ConnectTcp<R>;

    fn check(&self, address: &String) -> io::Result<()> {
        self.security.layer(host(address)).map(drop)
    }

    fn connect(&self, address: &String) -> ConnectTcp<R> {
        ConnectTcp::new(address, self.timeout, self.options.clone())
    }

    fn protocol(&self, address: &String) -> io::Result<Self::Protocol> {
        Ok(T::wrap(self.security.layer(host(address))?, self.protocol.make()?))
    }
}

/// Connects to Unix sockets. It appears only in bounds.
#[cfg(unix)]
#[derive(Debug)]
pub struct DialUnix<R, T, F> {
    pub(super) timeout: Duration,
    pub(super) security: T,
    pub(super) protocol: F,
    pub(super) runtime: PhantomData<fn(R)>,
}

#[cfg(unix)]
impl<R: UnixRuntime, T: Security, F: ProtocolFactory> Dial for DialUnix<R, T, F> {
    type Address = PathBuf;
    type Stream = R::UnixStream;
    type Protocol = T::Wrapped<F::Protocol>;
    type Connecting = ConnectUnix<R>;

    fn check(&self, path: &PathBuf) -> io::Result<()> {
        self.security.layer("")?;
        let checked = unix::Kind::of(path).map(drop);
        checked.map_err(|error| AddressError::wrap("connect to", unix::shown(path), error))
    }

    fn connect(&self, path: &PathBuf) -> ConnectUnix<R> {
        ConnectUnix::new(path, self.timeout)
    }

    fn protocol(&self, _path: &PathBuf) -> io::Result<Self::Protocol> {
        Ok(T::wrap(self.security.layer("")?, self.protocol.make()?))
    }
}

/// Connects over WebSocket. It appears only in bounds.
#[cfg(feature = "websocket")]
#[derive(Debug)]
pub struct DialWebSocket<R, T, MF> {
    pub(super) timeout: Duration,
    pub(super) options: TcpOptions,
    pub(super) security: T,
    pub(super) form: MF,
    pub(super) runtime: PhantomData<fn(R)>,
}

#[cfg(feature = "websocket")]
impl<R, T, MF, F> Dial for DialWebSocket<R, T, MF>
where
    R: Runtime,
    T: Security,
    MF: Fn() -> F,
    F: Form,
{
    type Address = ClientRequest;
    type Stream = R::TcpStream;
    type Protocol = T::Wrapped<WebSocket<F>>;
    type Connecting = ConnectTcp<R>;

    fn check(&self, request: &ClientRequest) -> io::Result<()> {
        websocket::address(request, self.security.is_secure())?;
        self.security.layer(request.host()).map(drop)
    }

    fn connect(&self, request: &ClientRequest) -> ConnectTcp<R> {
        ConnectTcp::new(&websocket::host_and_port(request), self.timeout, self.options.clone())
    }

    fn protocol(&self, request: &ClientRequest) -> io::Result<Self::Protocol> {
        websocket::address(request, self.security.is_secure())?;
        let protocol = WebSocket::client_of((self.form)(), request.clone(), system_random);
        Ok(T::wrap(self.security.layer(request.host())?, protocol))
    }
}
