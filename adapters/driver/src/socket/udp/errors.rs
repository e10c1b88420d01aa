//! Classifies errors of a datagram socket: about one datagram, or about the socket.

use std::io::ErrorKind;

use getty_core::IoFailure;

/// The system's error numbers that matter here.
#[cfg(unix)]
mod numbers {
    /// The descriptor is not a socket, or is unusable.
    pub(super) const OF_SOCKET: &[i32] = &[libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::ENOSYS];

    pub(super) const INVALID: i32 = libc::EINVAL;

    /// Errors that ICMP messages cause on a connected socket.
    pub(super) const OF_NETWORK: &[i32] = &[
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::ENOPROTOOPT,
        libc::EMSGSIZE,
        libc::EOPNOTSUPP,
        libc::EHOSTDOWN,
        libc::EPROTO,
        libc::EACCES,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        libc::ENONET,
    ];

    /// Subset that may also mean that datagrams cannot be sent as a run: the path's packets are smaller, or
    /// the call is forbidden.
    pub(super) const OF_RUN: &[i32] = &[libc::EMSGSIZE, libc::EACCES];

    pub(super) const OF_CONTROL: Option<i32> = Some(libc::EIO);
}

#[cfg(windows)]
mod numbers {
    /// `WSAEBADF`, `WSAENOTSOCK`, `WSAEFAULT`.
    pub(super) const OF_SOCKET: &[i32] = &[10009, 10038, 10014];

    /// `WSAEINVAL`.
    pub(super) const INVALID: i32 = 10022;

    /// `WSAECONNRESET`, `WSAECONNREFUSED`, `WSAENETRESET`, `WSAEHOSTUNREACH`, `WSAENETUNREACH`.
    pub(super) const OF_NETWORK: &[i32] = &[10054, 10061, 10052, 10065, 10051];

    pub(super) const OF_RUN: &[i32] = &[];

    pub(super) const OF_CONTROL: Option<i32> = None;
}

/// Whether the socket is unusable after a receive error. All others may be about one datagram.
pub(crate) fn ends_receiving(failure: IoFailure) -> bool {
    match failure.raw_os_error {
        Some(number) => numbers::OF_SOCKET.contains(&number) || number == numbers::INVALID,
        // Not a system error: about a datagram only if known to be.
        None => {
            !matches!(failure.kind, ErrorKind::NetworkDown | ErrorKind::PermissionDenied)
                && !has_kind_of_network(failure)
        }
    }
}

/// Whether the socket is unusable after a send error. `EINVAL` does not count: a peer can cause it by
/// claiming to have port 0.
pub(crate) fn ends_sending(failure: IoFailure) -> bool {
    failure.raw_os_error.is_some_and(|number| numbers::OF_SOCKET.contains(&number))
}

/// Whether a send error may be about an earlier datagram, if the socket is connected.
pub(crate) fn may_be_of_earlier(failure: IoFailure) -> bool {
    match failure.raw_os_error {
        Some(number) => numbers::OF_NETWORK.contains(&number),
        None => has_kind_of_network(failure),
    }
}

/// Whether an error of sending a run may be about that run.
pub(super) fn may_be_of_run(failure: IoFailure) -> bool {
    failure.raw_os_error.is_some_and(|number| numbers::OF_RUN.contains(&number))
}

/// Whether a send error may be about the control messages of a datagram: the layer below may not support
/// them.
pub(super) fn may_be_of_control(failure: IoFailure) -> bool {
    failure.raw_os_error.is_some() && failure.raw_os_error == numbers::OF_CONTROL
}

fn has_kind_of_network(failure: IoFailure) -> bool {
    matches!(
        failure.kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
