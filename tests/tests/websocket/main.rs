//! WebSocket sessions without a transport: handshake, frames, control frames and ends.

mod bytes;
mod closing;
mod control;
mod ends;
mod frames;
mod handshake;
mod known_answers;
mod large;
mod limits;
mod packages;
mod parts;
mod requests;
mod rfc;
mod tungstenite;
