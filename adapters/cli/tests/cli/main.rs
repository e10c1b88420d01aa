//! Drives the real program, as a user would: loopback only, and a free port each time.

mod bench;
mod connect;
mod serve;
mod support;
mod usage;
mod websocket;
mod ws;
