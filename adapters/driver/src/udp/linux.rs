//! What Linux can do beyond the rest.

use std::array;
use std::io::{self, IoSlice};

use nix::sys::socket::sockopt::Ipv6DontFrag;
use nix::sys::socket::{getsockopt, setsockopt};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sockopt};
use socket2::{Domain, SockRef};

/// How many datagrams go in one call.
pub(super) const TOGETHER: usize = 64;

/// An address in the system's form.
pub(super) type Peer = SocketAddrAny;

/// Sends `datagrams`, each to the peer of its number; without any, to where the socket is connected. Gives how many were
/// sent.
pub(super) fn send_together(
    socket: &SockRef<'_>,
    datagrams: &[[IoSlice<'_>; 1]],
    peers: &[Peer],
) -> io::Result<usize> {
    // Each header is some work, and mostly there are few.
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
    // Those that are left over are empty, and not for the system's eyes.
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

/// Sets a socket up by `set_up`, which does more than is wanted: it forbids fragments, and so datagrams larger than a
/// packet of the network.
pub(super) fn keeping_fragments<T>(
    socket: &SockRef<'_>,
    set_up: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    // A socket of IPv6 has both, for peers of IPv4.
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
