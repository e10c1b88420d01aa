//! Features that only Linux has.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::Ipv6DontFrag;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, setsockopt};
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sendmsg_addr, sockopt};
use socket2::{Domain, SockRef};

/// Maximum number of datagrams in one call.
pub(super) const TOGETHER: usize = 64;

/// An address in the system's form.
pub(super) type Peer = SocketAddrAny;

/// Sends `datagrams`, each to the peer at the same index. If `peers` is empty, sends to the peer of a
/// connected socket. Returns the number of datagrams sent.
pub(super) fn send_together(
    socket: &SockRef<'_>,
    datagrams: &[[IoSlice<'_>; 1]],
    peers: &[Peer],
) -> io::Result<usize> {
    // Each header costs some work, and there are usually few.
    if datagrams.len() <= 8 {
        send_up_to::<8>(socket, datagrams, peers)
    } else {
        send_up_to::<TOGETHER>(socket, datagrams, peers)
    }
}

fn send_up_to<const N: usize>(
    socket: &SockRef<'_>,
    datagrams: &[[IoSlice<'_>; 1]],
    peers: &[Peer],
) -> io::Result<usize> {
    let mut controls: [SendAncillaryBuffer<'_, '_, '_>; N] = array::from_fn(|_| Default::default());
    let (mut pieces, mut peers) = (datagrams.iter(), peers.iter());
    // Surplus headers stay empty and are not passed to the system.
    let mut headers = controls.each_mut().map(|control| {
        let piece: &[IoSlice<'_>] = pieces.next().map_or(&[], |piece| piece);
        match peers.next() {
            Some(peer) => MMsgHdr::new_with_addr(peer, piece, control),
            None => MMsgHdr::new(piece, control),
        }
    });
    loop {
        match sendmmsg(&**socket, &mut headers[..datagrams.len()], SendFlags::empty()) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Room for control messages: the local address, the size of joined datagrams, and those enabled by options
/// set elsewhere.
const CONTROL: usize = 256;

/// Memory for the control messages of [`receive_one`].
pub(super) fn control() -> Vec<u8> {
    vec![0; CONTROL]
}

/// Receives a datagram, or several joined by the system, in one call.
pub(super) fn receive_one(socket: &SockRef<'_>, room: &mut [u8], control: &mut [u8]) -> io::Result<RecvMeta> {
    let mut pieces = [IoSliceMut::new(room)];
    let received = loop {
        let flags = MsgFlags::empty();
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(control), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            result => break result?,
        }
    };
    let mut meta = RecvMeta { len: received.bytes, stride: received.bytes, ..RecvMeta::default() };
    if let Some(address) = &received.address {
        let v6 = || address.as_sockaddr_in6().map(|&address| SocketAddr::V6(address.into()));
        let v4 = address.as_sockaddr_in().map(|&address| SocketAddr::V4(address.into()));
        meta.addr = v4.or_else(v6).unwrap_or(meta.addr);
    }
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                meta.dst_ip = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                meta.dst_ip = Some(IpAddr::from(info.ipi6_addr.s6_addr));
            }
            ControlMessageOwned::UdpGroSegments(size) => {
                meta.stride = usize::try_from(size).unwrap_or(meta.len);
            }
            _ => {}
        }
    }
    Ok(meta)
}

/// Whether `error` of receiving a batch means that this process may not make that call. If so, the call
/// also fails for zero datagrams, which touches nothing in the socket. Otherwise, an error with these
/// numbers is about a datagram.
pub(super) fn forbids_receiving(socket: &SockRef<'_>, state: &UdpSocketState, error: &io::Error) -> bool {
    may_forbid(error) && {
        let none = state.recv((&**socket).into(), &mut [], &mut []);
        none.is_err_and(|again| again.raw_os_error() == error.raw_os_error())
    }
}

/// Whether `error` of [`send_together`] means that this process may not make that call.
pub(super) fn forbids_sending_together(socket: &SockRef<'_>, error: &io::Error) -> bool {
    may_forbid(error) && sendmmsg(&**socket, &mut [], SendFlags::empty()).is_err_and(|again| is(again, error))
}

/// Whether `error` of sending with control messages means that this process may not make that call
/// (`sendmsg`).
pub(super) fn forbids_control(socket: &SockRef<'_>, error: &io::Error) -> bool {
    may_forbid(error) && {
        // Port 0 is invalid, so nothing is sent.
        let localhost = match socket.domain() {
            Ok(Domain::IPV6) => IpAddr::from(Ipv6Addr::LOCALHOST),
            _ => IpAddr::from(Ipv4Addr::LOCALHOST),
        };
        let nowhere = SocketAddr::from((localhost, 0));
        let mut control = SendAncillaryBuffer::default();
        let sent = sendmsg_addr(&**socket, &nowhere, &[], &mut control, SendFlags::empty());
        sent.is_err_and(|again| is(again, error))
    }
}

/// Whether the error is one that seccomp filters and security modules return for forbidden calls.
fn may_forbid(error: &io::Error) -> bool {
    [Errno::NOSYS, Errno::PERM, Errno::ACCESS].iter().any(|&errno| is(errno, error))
}

fn is(errno: Errno, error: &io::Error) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Runs `set_up`, and undoes one of its effects: it forbids fragments, and so datagrams larger than a
/// network packet.
pub(super) fn keeping_fragments<T>(
    socket: &SockRef<'_>,
    set_up: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    // An IPv6 socket has both options, for IPv4 peers.
    let v4 = sockopt::ip_mtu_discover(&**socket)?;
    let v6 = match socket.domain()? {
        Domain::IPV6 => Some((sockopt::ipv6_mtu_discover(&**socket)?, getsockopt(&**socket, Ipv6DontFrag)?)),
        _ => None,
    };
    let result = set_up()?;
    sockopt::set_ip_mtu_discover(&**socket, v4)?;
    if let Some((discover, dont_fragment)) = v6 {
        sockopt::set_ipv6_mtu_discover(&**socket, discover)?;
        setsockopt(&**socket, Ipv6DontFrag, &dont_fragment)?;
    }
    Ok(result)
}
