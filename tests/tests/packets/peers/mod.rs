//! A session for each peer of a datagram socket.

mod lossy;
mod rules;
mod script;
mod sessions;
mod wakes;
