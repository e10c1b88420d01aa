//! UDP sockets: [`UdpOptions`], and [`BatchSocket`], which reads and writes whole batches.

pub(crate) mod errors;
#[cfg(target_os = "linux")]
mod linux;

use std::array;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use getty_core::datagram::{Outgoing, Path, RecvBatch, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Options of UDP sockets.
#[derive(Debug, Clone)]
pub struct UdpOptions {
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
    reuse_port: bool,
    broadcast: bool,
    groups_v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    groups_v6: Vec<(Ipv6Addr, u32)>,
    multicast_interface_v4: Option<Ipv4Addr>,
    multicast_interface_v6: Option<u32>,
    multicast_ttl: Option<u32>,
    multicast_loop: Option<bool>,
}

/// Default size of the system's receive buffer. The system's own default, 208 KiB on Linux, is full after
/// some 280 small datagrams, each of which takes 768 bytes there. With 64 peers that had 16 datagrams in
/// flight, one in 500 was lost.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

impl Default for UdpOptions {
    fn default() -> Self {
        UdpOptions {
            receive_buffer: Some(RECEIVE_BUFFER),
            send_buffer: None,
            reuse_port: false,
            broadcast: false,
            groups_v4: Vec::new(),
            groups_v6: Vec::new(),
            multicast_interface_v4: None,
            multicast_interface_v6: None,
            multicast_ttl: None,
            multicast_loop: None,
        }
    }
}

impl UdpOptions {
    /// The defaults: a larger receive buffer than the system's, and the system's choice for everything
    /// else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Size of the system's receive buffer in bytes (`SO_RCVBUF`): datagrams that arrive while it is full
    /// are lost. Default 2 MiB; `None` leaves the choice to the system. The system may reduce the size:
    /// Linux does at `net.core.rmem_max`, and then allows twice that, since it counts its own overhead.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.receive_buffer = bytes.into();
        self
    }

    /// Size of the system's send buffer in bytes (`SO_SNDBUF`). By default the system chooses. The system
    /// may reduce the size.
    #[must_use]
    pub fn send_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.send_buffer = bytes.into();
        self
    }

    /// Lets several sockets share one port (`SO_REUSEPORT`), if all of them set this and belong to one
    /// user: for example one per worker. Linux distributes datagrams by the peer's address, and delivers
    /// those of a multicast group to all; other systems may deliver all of them to one. Off by default.
    /// Only on Unix; Windows has no equivalent.
    ///
    /// One socket keeps at most one thread busy. For more, start one server per thread: the first at port 0
    /// or the wanted port, the others at the first one's [`local_addr`](crate::Server::local_addr). Each
    /// has its own limits and is shut down separately. Datagrams from one peer reach the same socket as
    /// long as the set of sockets stays the same. When a socket is closed or opened, a peer may move to
    /// another one, to which it is new. A shared port is not refused to a second instance of the same
    /// program: to detect that, first try to bind without this option.
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`). Off by default.
    #[must_use]
    pub fn broadcast(mut self, on: bool) -> Self {
        self.broadcast = on;
        self
    }

    /// Receives datagrams sent to the multicast group `group`, on the interface with the address
    /// `interface`; [`Ipv4Addr::UNSPECIFIED`] leaves the choice to the system. May be called for several
    /// groups. Closing the socket leaves them.
    #[must_use]
    pub fn join_v4(mut self, group: Ipv4Addr, interface: Ipv4Addr) -> Self {
        self.groups_v4.push((group, interface));
        self
    }

    /// Receives datagrams sent to the IPv6 multicast group `group`, on the interface with the index
    /// `interface`; 0 leaves the choice to the system. May be called for several groups. Closing the socket
    /// leaves them.
    #[must_use]
    pub fn join_v6(mut self, group: Ipv6Addr, interface: u32) -> Self {
        self.groups_v6.push((group, interface));
        self
    }

    /// Outgoing interface of an IPv4 socket for multicast datagrams, by its address. By default the system
    /// chooses.
    #[must_use]
    pub fn multicast_interface_v4(mut self, interface: impl Into<Option<Ipv4Addr>>) -> Self {
        self.multicast_interface_v4 = interface.into();
        self
    }

    /// Outgoing interface of an IPv6 socket for multicast datagrams, by its index. By default the system
    /// chooses.
    #[must_use]
    pub fn multicast_interface_v6(mut self, interface: impl Into<Option<u32>>) -> Self {
        self.multicast_interface_v6 = interface.into();
        self
    }

    /// Range of multicast datagrams, counted as systems do: 0 is this machine, 1 the local network, and
    /// each further router needs one more. At most 255. By default the system's choice, which is 1.
    #[must_use]
    pub fn multicast_ttl(mut self, ttl: impl Into<Option<u32>>) -> Self {
        self.multicast_ttl = ttl.into();
        self
    }

    /// Whether this machine receives the socket's own multicast datagrams. By default the system's choice:
    /// yes.
    #[must_use]
    pub fn multicast_loop(mut self, on: impl Into<Option<bool>>) -> Self {
        self.multicast_loop = on.into();
        self
    }

    /// Creates a non-blocking socket at `address` that talks to any peer. Port 0 selects a free one.
    ///
    /// # Errors
    /// The address is in use, not local, or not permitted; a group is not a multicast address, or is of the
    /// other address family; the system rejects an option.
    pub fn bind(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.socket(address).map(UdpSocket::from)
    }

    /// Creates a non-blocking socket that talks only to `address`, from any free port.
    ///
    /// # Errors
    /// There is no route to the address, or as for [`bind`](Self::bind). Does not check whether a peer
    /// listens there.
    pub fn connect(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let any = match address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = self.socket((any, 0).into())?;
        socket.connect(&address.into())?;
        Ok(socket.into())
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if self.broadcast {
            socket.set_broadcast(true)?;
        }
        if address.is_ipv4() {
            self.send_to_groups_v4(&socket)?;
        } else {
            self.send_to_groups_v6(&socket)?;
        }
        socket.bind(&address.into())?;
        for (group, interface) in &self.groups_v4 {
            socket.join_multicast_v4(group, interface)?;
        }
        for (group, interface) in &self.groups_v6 {
            socket.join_multicast_v6(group, *interface)?;
        }
        Ok(socket)
    }

    fn send_to_groups_v4(&self, socket: &Socket) -> io::Result<()> {
        if let Some(interface) = self.multicast_interface_v4 {
            socket.set_multicast_if_v4(&interface)?;
        }
        if let Some(ttl) = self.multicast_ttl {
            socket.set_multicast_ttl_v4(ttl)?;
        }
        if let Some(on) = self.multicast_loop {
            socket.set_multicast_loop_v4(on)?;
        }
        Ok(())
    }

    fn send_to_groups_v6(&self, socket: &Socket) -> io::Result<()> {
        if let Some(interface) = self.multicast_interface_v6 {
            socket.set_multicast_if_v6(interface)?;
        }
        if let Some(ttl) = self.multicast_ttl {
            socket.set_multicast_hops_v6(ttl)?;
        }
        if let Some(on) = self.multicast_loop {
            socket.set_multicast_loop_v6(on)?;
        }
        Ok(())
    }
}

/// Largest datagrams that the system is asked to cut from one piece: the payload of an Ethernet packet,
/// also over IPv6. The system refuses larger ones, and an attempt per run would cost a call.
const LARGEST_SEGMENT: usize = 1452;

/// Reads and writes the batches of one socket, in as few system calls as possible.
///
/// | | Linux | macOS, BSD | Windows |
/// |---|---|---|---|
/// | receiving | up to 32 in a call (`recvmmsg`), more if joined (`UDP_GRO`) | one | one, or joined ones |
/// | a run of equal sizes to one peer | one call (`UDP_SEGMENT`) | one each | one call, where supported |
/// | other datagrams | up to 64 in a call (`sendmmsg`), except below | one each | one each |
/// | larger than a packet of the network | in fragments | refused | refused |
///
/// A socket bound to every address of the machine (`0.0.0.0` or `[::]`) makes one call for each run of its
/// replies, because `sendmmsg` cannot be given the source address there. A socket bound to a single
/// address, or connected, has no such choice.
///
/// On Linux a sandbox may forbid the calls for several datagrams, which then return `ENOSYS`, `EPERM` or
/// `EACCES`. Each socket detects that once. From then on it receives by `recvmsg`, one datagram or several
/// joined ones in a call, and sends each datagram separately. Where `sendmsg` is forbidden too, datagrams
/// leave from the address that the system chooses.
#[derive(Debug)]
pub struct BatchSocket {
    state: UdpSocketState,
    /// The peer, if the socket is connected.
    peer: Option<SocketAddr>,
    /// The socket has every address of this machine, so each reply must name its source address.
    any_address: bool,
    received: Box<[RecvMeta; BATCH_SIZE]>,
    /// The peers of datagrams sent together. Kept for its memory.
    #[cfg(target_os = "linux")]
    peers: Vec<linux::Peer>,
    /// For the control messages of single receives, if this process may not receive in batches.
    #[cfg(target_os = "linux")]
    control: Option<Vec<u8>>,
    /// This process may not send datagrams together.
    #[cfg(target_os = "linux")]
    separately: bool,
    /// This process may not send with control messages: there are no runs, and the system chooses the
    /// source address of datagrams.
    bare: bool,
}

impl BatchSocket {
    /// Prepares `socket`: makes it non-blocking and sets the options that batches need. If it is to talk to
    /// one peer, connect it first.
    ///
    /// # Errors
    /// The system rejects an option.
    pub fn new(socket: &SockRef<'_>) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let state = linux::keeping_fragments(socket, || UdpSocketState::new((&**socket).into()))?;
        #[cfg(not(target_os = "linux"))]
        let state = UdpSocketState::new((&**socket).into())?;
        let local = socket.local_addr()?.as_socket();
        Ok(BatchSocket {
            state,
            peer: socket.peer_addr().ok().and_then(|address| address.as_socket()),
            any_address: local.is_none_or(|address| address.ip().is_unspecified()),
            received: Box::new([RecvMeta::default(); BATCH_SIZE]),
            #[cfg(target_os = "linux")]
            peers: Vec::new(),
            #[cfg(target_os = "linux")]
            control: None,
            #[cfg(target_os = "linux")]
            separately: false,
            bare: false,
        })
    }

    /// Receives once into the slots of `batch`, which is empty. Returns whether there may be more: after
    /// `false` the socket is empty, and another attempt makes sense only when the system reports input.
    ///
    /// # Errors
    /// The system's, including [`WouldBlock`](ErrorKind::WouldBlock). A connected socket also reports
    /// datagrams sent earlier that were not delivered ([`ConnectionRefused`](ErrorKind::ConnectionRefused)
    /// and the like).
    pub fn recv(&mut self, socket: &SockRef<'_>, batch: &mut RecvBatch) -> io::Result<bool> {
        const { assert!(BATCH_SIZE <= RecvBatch::SLOTS, "an empty buffer would truncate a datagram") };
        #[cfg(target_os = "linux")]
        if self.control.is_some() {
            return self.receive_one(socket, batch);
        }
        let received = {
            let mut slots = batch.slots();
            let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
                array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
            self.state.recv((&**socket).into(), &mut buffers, &mut self.received[..])
        };
        let n = match received {
            #[cfg(target_os = "linux")]
            Err(error) if linux::forbids_receiving(socket, &self.state, &error) => {
                self.control = Some(linux::control());
                return self.receive_one(socket, batch);
            }
            result => result?,
        };
        self.fill(batch, n);
        Ok(n == BATCH_SIZE)
    }

    /// Receives once, where batches are forbidden. Datagrams may still arrive joined. If joining were
    /// disabled now, those already joined could not be separated.
    #[cfg(target_os = "linux")]
    fn receive_one(&mut self, socket: &SockRef<'_>, batch: &mut RecvBatch) -> io::Result<bool> {
        let (room, control) = (batch.slots().next().unwrap_or_default(), self.control.as_mut());
        self.received[0] = linux::receive_one(socket, room, control.map_or(&mut [], |control| control))?;
        self.fill(batch, 1);
        Ok(true)
    }

    /// Passes the first `n` received slots to the batch.
    fn fill(&self, batch: &mut RecvBatch, n: usize) {
        for (slot, meta) in self.received[..n].iter().enumerate() {
            // A group's address cannot be the source of a reply.
            let local = meta.dst_ip.filter(|&address| is_of_one(address));
            batch.filled(slot, Path::new(meta.addr).with_local(local), meta.len, meta.stride);
        }
    }

    /// Sends from the first datagram on until all are gone or the socket is full. Returns the number of
    /// datagrams taken, at least one. `outgoing` must not be empty.
    ///
    /// # Errors
    /// The system's, if nothing was sent before it: [`WouldBlock`](ErrorKind::WouldBlock) means that the
    /// socket is full, any other that the first datagram cannot be sent. On a connected socket the error
    /// may belong to an earlier datagram, as in [`recv`](Self::recv); the system reports each once.
    pub fn send(&mut self, socket: &SockRef<'_>, outgoing: &Outgoing) -> io::Result<usize> {
        let mut rest = Rest::new(outgoing.transmits());
        let mut sent = 0;
        while let Some(first) = rest.first {
            let (n, wanted) = match self.send_some(socket, first, &mut rest) {
                Ok(counts) => counts,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break, // the next call reports it, with that datagram first
            };
            sent += n;
            if n < wanted {
                break;
            }
        }
        Ok(sent)
    }

    /// Sends `first`, and possibly some after it. Returns the number of datagrams sent, and the number
    /// taken from `rest` for that.
    fn send_some<'a>(
        &mut self,
        socket: &SockRef<'_>,
        first: Transmit<'a>,
        rest: &mut Rest<'a, impl Iterator<Item = Transmit<'a>>>,
    ) -> io::Result<(usize, usize)> {
        let most = if self.bare { 1 } else { self.state.max_gso_segments() };
        let is_run = move |transmit: &Transmit<'_>| {
            transmit.count > 1 && transmit.segment <= LARGEST_SEGMENT && transmit.count <= most
        };
        if is_run(&first) {
            match self.transmit(socket, &first, first.contents, Some(first.segment)) {
                Ok(()) => {
                    rest.advance(first.count);
                    return Ok((first.count, first.count));
                }
                Err(error) if self.is_final(&error) => return Err(error),
                #[cfg(target_os = "linux")]
                Err(error) if linux::forbids_control(socket, &error) => self.bare = true,
                Err(_) => {} // not supported by the network or its card: send each separately
            }
        }
        #[cfg(target_os = "linux")]
        if !self.separately && self.source(&first).is_none() {
            let mut slices = [[io::IoSlice::new(&[])]; linux::TOGETHER];
            let mut n = 0;
            self.peers.clear();
            while let Some(transmit) = rest.first.filter(|_| n < slices.len()) {
                let differs = transmit.path.is_some() != first.path.is_some();
                if n > 0 && (differs || is_run(&transmit) || self.source(&transmit).is_some()) {
                    break;
                }
                let mut taken = 0;
                for (slice, datagram) in slices[n..].iter_mut().zip(transmit.datagrams()) {
                    *slice = [io::IoSlice::new(datagram)];
                    self.peers.extend(transmit.path.map(|path| linux::Peer::from(path.peer)));
                    taken += 1;
                }
                n += taken;
                rest.advance(taken);
            }
            if n > 1 {
                match linux::send_together(socket, &slices[..n], &self.peers) {
                    Err(error) if linux::forbids_sending_together(socket, &error) => self.separately = true,
                    result => return Ok((result?, n)),
                }
            }
            self.send_one(socket, &first)?;
            return Ok((1, n));
        }
        self.send_one(socket, &first)?;
        rest.advance(1);
        Ok((1, 1))
    }

    /// The required source address of datagrams, where the system would not choose it anyway.
    fn source(&self, transmit: &Transmit<'_>) -> Option<IpAddr> {
        transmit.path.and_then(|path| path.local).filter(|_| self.any_address && !self.bare)
    }

    /// Sends the first datagram of `transmit`.
    fn send_one(&mut self, socket: &SockRef<'_>, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagram = &transmit.contents[..transmit.contents.len().min(transmit.segment)];
        // Not every system lets a connected socket name its peer.
        let Some(path) = transmit.path else { return socket.send(datagram).map(drop) };
        if !self.bare {
            match self.transmit(socket, transmit, datagram, None) {
                Err(error) if self.is_of_control(socket, &error) => {}
                result => return result,
            }
        }
        socket.send_to(datagram, &path.peer.into()).map(drop)
    }

    /// Whether a send error means that the control messages are not supported or not permitted.
    fn is_of_control(&mut self, socket: &SockRef<'_>, error: &io::Error) -> bool {
        #[cfg(target_os = "linux")]
        if linux::forbids_control(socket, error) {
            self.bare = true;
        }
        self.bare || errors::may_be_of_control(error.into())
    }

    /// Sends `contents` to the destination of `transmit`, in datagrams of `segment` bytes each or as a
    /// single one.
    fn transmit(
        &self,
        socket: &SockRef<'_>,
        transmit: &Transmit<'_>,
        contents: &[u8],
        segment: Option<usize>,
    ) -> io::Result<()> {
        let path = transmit.path.or(self.peer.map(Path::new)).ok_or(ErrorKind::NotConnected)?;
        let mut transmit = quinn_udp::Transmit {
            destination: path.peer,
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: self.source(transmit),
        };
        match self.state.try_send((&**socket).into(), &transmit) {
            // The address may no longer belong to this machine, or be a broadcast address. Another source
            // is better than no datagram.
            Err(error) if transmit.src_ip.is_some() && error.kind() != ErrorKind::WouldBlock => {
                transmit.src_ip = None;
                self.state.try_send((&**socket).into(), &transmit).map_err(|_| error)
            }
            result => result,
        }
    }

    /// Whether an error of sending a run means to wait, or concerns datagrams sent earlier. Sending another
    /// way would change nothing and lose the error, since the system reports it once. An error that may
    /// also mean that the run itself is too large or not permitted is not final: a lost report is better
    /// than lost datagrams.
    fn is_final(&self, error: &io::Error) -> bool {
        let of_earlier = errors::may_be_of_earlier(error.into()) && !errors::may_be_of_run(error.into());
        error.kind() == ErrorKind::WouldBlock || self.peer.is_some() && of_earlier
    }
}

/// Transmits, the first of which may be partly sent.
struct Rest<'a, I> {
    first: Option<Transmit<'a>>,
    others: I,
}

impl<'a, I: Iterator<Item = Transmit<'a>>> Rest<'a, I> {
    fn new(mut transmits: I) -> Self {
        Rest { first: transmits.next(), others: transmits }
    }

    /// Skips the next `n` datagrams, all of the first transmit.
    fn advance(&mut self, n: usize) {
        match &mut self.first {
            Some(first) if n < first.count => {
                first.contents = &first.contents[n * first.segment..];
                first.count -= n;
            }
            _ => self.first = self.others.next(),
        }
    }
}

/// Whether an address belongs to a single machine.
fn is_of_one(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(!v6.is_multicast(), |v4| is_of_one(v4.into())),
    }
}
