//! [`Proxy`]: stands between two ends until it loses the connection, without a sign to either.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use socket2::SockRef;

/// How the ends of a connection lose each other. Neither gets a FIN or a reset, whatever the other does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Bytes are read and lost: writing goes on as if nothing had happened.
    Swallowed,
    /// Bytes are not read: the system's buffers fill up.
    NotTaken,
}

/// Forwards connections to its address, both ways, with two threads for each.
pub struct Proxy {
    address: SocketAddr,
    links: Links,
}

/// Controls a [`Proxy`] from anywhere.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    links: Vec<Arc<Link>>,
    over: bool,
}

/// A connection that was accepted, and the one that was made for it.
struct Link {
    ends: [TcpStream; 2],
    mode: Mutex<Mode>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forwards,
    Lost(Loss),
    Over,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Accepted sockets inherit this. The buffer is so small that the peer soon finds it full.
        SockRef::from(&listener).set_recv_buffer_size(8 * 1024).unwrap();
        let address = listener.local_addr().unwrap();
        let links = Links::default();
        let all = links.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if !all.add(client, server) {
                    return;
                }
            }
        });
        Proxy { address, links }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Loses every connection that exists now. Later ones are forwarded as usual.
    pub fn lose(&self, loss: Loss) {
        self.links.lose(loss);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.links.lock();
        state.over = true;
        state.links.drain(..).for_each(|link| link.set(Mode::Over));
        drop(state);
        let _ = TcpStream::connect(self.address); // wakes the accepting thread
    }
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// See [`Proxy::lose`].
    pub fn lose(&self, loss: Loss) {
        self.lock().links.iter().for_each(|link| link.set(Mode::Lost(loss)));
    }

    /// Begins to forward. Returns whether the proxy still exists.
    fn add(&self, client: TcpStream, server: SocketAddr) -> bool {
        let mut state = self.lock();
        if state.over {
            return false;
        }
        let Ok(server) = TcpStream::connect(server) else { return true };
        SockRef::from(&server).set_recv_buffer_size(8 * 1024).unwrap();
        let ends = [client, server];
        ends.iter().for_each(|end| end.set_nodelay(true).unwrap());
        let link = Arc::new(Link { ends, mode: Mutex::new(Mode::Forwards), changed: Condvar::new() });
        for (from, to) in [(0, 1), (1, 0)] {
            let link = link.clone();
            thread::spawn(move || link.forward(from, to));
        }
        state.links.push(link);
        true
    }
}

impl Link {
    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        self.changed.notify_all();
        if mode == Mode::Over {
            self.ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    fn forward(&self, from: usize, to: usize) {
        let (mut from, mut to) = (&self.ends[from], &self.ends[to]);
        let mut bytes = [0; 16 * 1024];
        loop {
            let read = from.read(&mut bytes);
            match (self.mode(), read) {
                (Mode::Forwards, Ok(n @ 1..)) => drop(to.write_all(&bytes[..n])),
                (Mode::Forwards, Ok(0)) => return drop(to.shutdown(Shutdown::Write)),
                (Mode::Forwards, Err(_)) => return drop(to.shutdown(Shutdown::Both)),
                (Mode::Lost(Loss::Swallowed), Ok(1..)) => {}
                // The bytes that were just read are the last ones.
                (Mode::Lost(Loss::NotTaken), Ok(1..)) => {
                    let lost = |mode: &mut Mode| *mode == Mode::Lost(Loss::NotTaken);
                    drop(self.changed.wait_while(self.mode.lock().unwrap(), lost).unwrap());
                }
                // The end of one side is not passed on to the other.
                (Mode::Lost(_), Ok(0) | Err(_)) | (Mode::Over, _) => return,
            }
        }
    }
}
