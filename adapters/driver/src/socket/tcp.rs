//! TCP sockets: [`TcpOptions`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// Options of TCP sockets.
#[derive(Debug, Clone)]
pub struct TcpOptions {
    nodelay: bool,
    keepalive: Option<Duration>,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
    backlog: i32,
    reuse_port: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            nodelay: true,
            keepalive: None,
            receive_buffer: None,
            send_buffer: None,
            backlog: 1024,
            reuse_port: false,
        }
    }
}

impl TcpOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `TCP_NODELAY`: small writes are sent at once. On by default: sessions already combine small writes,
    /// and Nagle's algorithm would only delay them.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Idle time after which the system probes whether the peer is still there (`SO_KEEPALIVE`, whole
    /// seconds, rounded up). Off by default: sessions have their own idle detection and heartbeats.
    #[must_use]
    pub fn keepalive(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.keepalive = after.into();
        self
    }

    /// Size of the system's receive buffer in bytes (`SO_RCVBUF`). By default the system chooses.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.receive_buffer = bytes.into();
        self
    }

    /// Size of the system's send buffer in bytes (`SO_SNDBUF`). By default the system chooses.
    #[must_use]
    pub fn send_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.send_buffer = bytes.into();
        self
    }

    /// Maximum number of connections waiting to be accepted. Default 1024; the system may reduce it.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// Lets several servers listen on one port (`SO_REUSEPORT`), if all of them set this and belong to one
    /// user: for example one per thread, each with its own runtime. Linux distributes connections by the
    /// peer's address and port. Connections waiting to be accepted by a server that ends are reset. Off by
    /// default. Only on Unix; Windows has no equivalent.
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Creates a non-blocking listening socket. Port 0 selects a free one.
    ///
    /// # Errors
    /// The address is in use, not local, or not permitted.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        // On Windows this option lets another process take over the address.
        if cfg!(unix) {
            socket.set_reuse_address(true)?;
        }
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        self.size_buffers(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(self.backlog)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Applies the options to a connected socket.
    ///
    /// # Errors
    /// The system rejects an option.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(after) = self.keepalive {
            // The system counts whole seconds, and rejects 0.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let after = Duration::from_secs(seconds.max(1));
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
        }
        self.size_buffers(socket)
    }

    fn size_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }
}
