//! Unix domain sockets: [`UnixOptions`], and [`UnixIncoming`], which owns the file of a listening one.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::{Accept, UnixRuntime};

/// The connections of a [`Server`](crate::Server) on a Unix socket. It appears in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods only.
pub struct UnixIncoming<R: UnixRuntime> {
    /// Dropped before the socket: nobody should find a file that leads nowhere.
    _file: SocketFile,
    listener: R::UnixListener,
}

impl<R: UnixRuntime> UnixIncoming<R> {
    /// Listens on `path`, and gives it as an absolute one.
    pub(crate) fn listen(path: &Path, options: &UnixOptions) -> io::Result<(Self, PathBuf)> {
        let path = std::path::absolute(path)?;
        let (socket, file) = options.listen(&path)?;
        Ok((UnixIncoming { _file: file, listener: R::unix_listener(socket)? }, path))
    }
}

impl<R: UnixRuntime> Accept for UnixIncoming<R> {
    type Stream = R::UnixStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R::UnixStream>> {
        self.listener.poll_accept(cx)
    }
}

/// Options of listening Unix sockets.
#[derive(Debug, Clone)]
pub struct UnixOptions {
    mode: Option<u32>,
    backlog: i32,
}

impl Default for UnixOptions {
    fn default() -> Self {
        UnixOptions { mode: None, backlog: 1024 }
    }
}

impl UnixOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Permissions of the socket's file, such as `0o660`: who may write to it may connect. They are set before the
    /// first connection can be made. By default the process's umask decides.
    #[must_use]
    pub fn mode(mut self, mode: impl Into<Option<u32>>) -> Self {
        self.mode = mode.into();
        self
    }

    /// How many connections may wait to be accepted. Default 1024; the system may cut it.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    fn listen(&self, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_behind(path) => {
                fs::remove_file(path)?;
                socket.bind(&address)?;
            }
            result => result?,
        }
        let file = SocketFile::new(path.to_owned())?;
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(self.backlog)?;
        socket.set_nonblocking(true)?;
        Ok((socket.into(), file))
    }
}

/// Whether `path` is a socket on which nobody listens.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Connects to the socket at `path`, which takes no time: it is done, or fails. [`ErrorKind::WouldBlock`] says that too
/// many wait there to be accepted.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// The file of a listening socket, which is removed with it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file, by which it is told from one that came in its place.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(SocketFile { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path); // there is nobody to be told
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
