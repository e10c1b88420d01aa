//! Unix domain sockets: [`UnixOptions`], and [`SocketFile`], which owns the file of a listening one.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

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

    /// Permissions of the socket's file, such as `0o660`: write permission allows connecting. They are set
    /// before the first connection can be made. By default the process's umask decides. An abstract socket
    /// has no file and no mode: setting one is an error.
    #[must_use]
    pub fn mode(mut self, mode: impl Into<Option<u32>>) -> Self {
        self.mode = mode.into();
        self
    }

    /// Maximum number of connections waiting to be accepted. Default 1024; the system may reduce it.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// Listens on `path`, which is absolute or abstract.
    pub(crate) fn listen(&self, path: &Path) -> io::Result<(UnixListener, Option<SocketFile>)> {
        let address = address(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let file = match Kind::of(path)? {
            Kind::Abstract => self.bind_abstract(&socket, &address).map(|()| None),
            Kind::File => self.bind_file(&socket, &address, path).map(Some),
        }?;
        socket.listen(self.backlog)?;
        socket.set_nonblocking(true)?;
        Ok((socket.into(), file))
    }

    fn bind_abstract(&self, socket: &Socket, address: &SockAddr) -> io::Result<()> {
        if self.mode.is_some() {
            let text =
                "an abstract socket has no file to set a mode on: every user of this machine may connect";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        socket.bind(address)
    }

    fn bind_file(&self, socket: &Socket, address: &SockAddr, path: &Path) -> io::Result<SocketFile> {
        match socket.bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                // A link counts as its target. A dangling link is not a socket either.
                let found = fs::metadata(path).or_else(|_| fs::symlink_metadata(path));
                if found.is_ok_and(|file| !file.file_type().is_socket()) {
                    let text = "the file exists and is not a socket: choose another path";
                    return Err(io::Error::new(ErrorKind::AlreadyExists, text));
                }
                if !is_left_behind(path) {
                    return Err(error);
                }
                fs::remove_file(path)?;
                socket.bind(address)?;
            }
            result => result?,
        }
        let file = SocketFile::new(path.to_owned())?;
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(file)
    }
}

/// The kind of socket that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// A name that starts with a NUL, for a socket without a file. Linux only.
    Abstract,
}

impl Kind {
    /// # Errors
    /// The path contains a NUL at which the system would cut it off, or the system does not support its
    /// kind of name.
    pub(crate) fn of(path: &Path) -> io::Result<Kind> {
        let (kind, name) = match path.as_os_str().as_bytes() {
            [0, name @ ..] => (Kind::Abstract, name),
            path => (Kind::File, path),
        };
        let text = if kind == Kind::Abstract && !cfg!(any(target_os = "linux", target_os = "android")) {
            "the path begins with a NUL, but this system has no abstract sockets: use the path of a file"
        } else if kind == Kind::Abstract && name.is_empty() {
            "the path is only a NUL: the name of an abstract socket must follow"
        } else if name.contains(&0) {
            "the path contains a NUL: only the first byte may be one, for an abstract socket"
        } else {
            return Ok(kind);
        };
        Err(io::Error::new(ErrorKind::InvalidInput, text))
    }
}

fn address(path: &Path) -> io::Result<SockAddr> {
    Kind::of(path)?;
    SockAddr::unix(path)
}

/// The path in printable form. A leading NUL becomes `@`, as other programs show it, since many terminals
/// and logs cut text off at a NUL.
pub(crate) fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    match path.strip_prefix('\0') {
        Some(name) => format!("@{}", name.replace('\0', "\\0")),
        None => path.replace('\0', "\\0"),
    }
}

/// Whether nothing listens on the socket file at `path`.
fn is_left_behind(path: &Path) -> bool {
    connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Connects to the socket at `path`, which succeeds or fails at once. [`ErrorKind::WouldBlock`] means that
/// its accept queue is full.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = address(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&address)?;
    Ok(socket.into())
}

/// The file of a listening socket, removed together with it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The device and inode numbers of the file, to recognise a file that has replaced it.
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
            let _ = fs::remove_file(&self.path); // a destructor cannot report an error
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
