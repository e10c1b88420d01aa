//! [`Config`]: the limits and periods of a session.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;

/// The range of periods that a [`Config`] accepts.
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// The limits and periods of a session, shared by all sessions of an endpoint as `Arc<Config>`.
///
/// Made by [`Config::builder`]. [`Config::default`] suits the open internet.
///
/// ```
/// use std::time::Duration;
/// use getty_core::Config;
///
/// let config = Config::builder().max_frame(64 * 1024).cron_period(Duration::from_secs(1)).build()?;
/// assert_eq!(config.max_frame(), 64 * 1024);
/// # Ok::<(), getty_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    max_frame: usize,
    max_message: usize,
    max_datagram: usize,
    max_head: usize,
    max_buffered: Option<usize>,
    low_watermark: usize,
    high_watermark: usize,
    max_queued: usize,
    zero_copy_from: usize,
    handle_queue: usize,
    receive_ahead: usize,
    handshake_timeout: Duration,
    partial_frame_timeout: Option<Duration>,
    write_stall_timeout: Option<Duration>,
    close_timeout: Duration,
    cron_period: Option<Duration>,
    heartbeat_period: Option<Duration>,
    pong_timeout: Option<Duration>,
    idle_read: Option<Duration>,
    idle_write: Option<Duration>,
    idle_both: Option<Duration>,
    idle_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_frame: 8 * 1024 * 1024,
            max_message: 8 * 1024 * 1024,
            max_datagram: 65_507,
            max_head: 16 * 1024,
            max_buffered: None,
            low_watermark: 32 * 1024,
            high_watermark: 64 * 1024,
            max_queued: 1024 * 1024,
            zero_copy_from: 8 * 1024,
            handle_queue: 256,
            receive_ahead: 16 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            partial_frame_timeout: Some(Duration::from_secs(30)),
            write_stall_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(5),
            cron_period: None,
            heartbeat_period: None,
            pong_timeout: Some(Duration::from_secs(10)),
            idle_read: None,
            idle_write: None,
            idle_both: None,
            idle_timeout: None,
        }
    }
}

/// Bytes buffered beyond the largest frame: room for its header and for bytes read with it.
const BUFFERED_BEYOND_FRAME: usize = 64 * 1024;

impl Config {
    /// Returns a builder with the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder { config: Config::default() }
    }

    /// See [`ConfigBuilder::max_frame`].
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// See [`ConfigBuilder::max_datagram`].
    pub fn max_datagram(&self) -> usize {
        self.max_datagram
    }

    /// See [`ConfigBuilder::max_message`].
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// See [`ConfigBuilder::max_head`].
    pub fn max_head(&self) -> usize {
        self.max_head
    }

    /// See [`ConfigBuilder::max_buffered`].
    pub fn max_buffered(&self) -> usize {
        self.max_buffered.unwrap_or(self.max_frame.saturating_add(BUFFERED_BEYOND_FRAME))
    }

    /// See [`ConfigBuilder::watermarks`].
    pub fn low_watermark(&self) -> usize {
        self.low_watermark
    }

    /// See [`ConfigBuilder::watermarks`].
    pub fn high_watermark(&self) -> usize {
        self.high_watermark
    }

    /// See [`ConfigBuilder::max_queued`].
    pub fn max_queued(&self) -> usize {
        self.max_queued
    }

    /// See [`ConfigBuilder::zero_copy_from`].
    pub fn zero_copy_from(&self) -> usize {
        self.zero_copy_from
    }

    /// See [`ConfigBuilder::handle_queue`].
    pub fn handle_queue(&self) -> usize {
        self.handle_queue
    }

    /// See [`ConfigBuilder::receive_ahead`].
    pub fn receive_ahead(&self) -> usize {
        self.receive_ahead
    }

    /// See [`ConfigBuilder::handshake_timeout`].
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// See [`ConfigBuilder::partial_frame_timeout`].
    pub fn partial_frame_timeout(&self) -> Option<Duration> {
        self.partial_frame_timeout
    }

    /// See [`ConfigBuilder::write_stall_timeout`].
    pub fn write_stall_timeout(&self) -> Option<Duration> {
        self.write_stall_timeout
    }

    /// See [`ConfigBuilder::close_timeout`].
    pub fn close_timeout(&self) -> Duration {
        self.close_timeout
    }

    /// See [`ConfigBuilder::cron_period`].
    pub fn cron_period(&self) -> Option<Duration> {
        self.cron_period
    }

    /// See [`ConfigBuilder::heartbeat_period`].
    pub fn heartbeat_period(&self) -> Option<Duration> {
        self.heartbeat_period
    }

    /// See [`ConfigBuilder::pong_timeout`].
    pub fn pong_timeout(&self) -> Option<Duration> {
        self.pong_timeout
    }

    /// See [`ConfigBuilder::idle_read`].
    pub fn idle_read(&self) -> Option<Duration> {
        self.idle_read
    }

    /// See [`ConfigBuilder::idle_write`].
    pub fn idle_write(&self) -> Option<Duration> {
        self.idle_write
    }

    /// See [`ConfigBuilder::idle_both`].
    pub fn idle_both(&self) -> Option<Duration> {
        self.idle_both
    }

    /// See [`ConfigBuilder::idle_timeout`].
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }
}

/// Builds a [`Config`]. [`build`](Self::build) checks the values.
///
/// Periods may be 1 ms to 365 days. Limits on how long a misbehaving peer can hold a session are on by
/// default; periods that make a session act by itself (cron, idle) are off.
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// Sets the largest frame, received or sent, in bytes on the wire; for WebSocket, of its payload. Default
    /// 8 MiB, at least 1.
    ///
    /// A larger received frame ends the session as soon as its header announces it, before memory is
    /// reserved. A larger item to send is refused and the session stays open. The error is
    /// [`SendError::TooLarge`](crate::SendError::TooLarge) with the item, if the encoder knows sizes in
    /// advance (all of this crate do); it is [`SendError::Encode`](crate::SendError::Encode) otherwise, or if
    /// the codec's own limit is lower. 8 MiB fits practical payloads and bounds the memory of one connection.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.config.max_frame = bytes;
        self
    }

    /// Sets the largest message, received or sent, in bytes of payload after decompression. Applies where a
    /// message may have several frames or be compressed (WebSocket). Default 8 MiB, at least 1.
    ///
    /// A larger received message ends the session (WebSocket: 1009) without allocating more than this. Most
    /// peers, including browsers, send a message as one frame: to accept larger ones, raise
    /// [`max_frame`](Self::max_frame) too.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.config.max_message = bytes;
        self
    }

    /// Sets the largest datagram, received or sent, in bytes. Default 65 507, the most that fits UDP over
    /// IPv4; at least 1.
    ///
    /// A larger received datagram is dropped and reported; a larger one to send is refused, as for
    /// [`max_frame`](Self::max_frame). A datagram larger than the network's packets (1 500 bytes on most
    /// networks; some 1 200 always pass) arrives only if each of its fragments does.
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        self.config.max_datagram = bytes;
        self
    }

    /// Sets the largest head of an opening handshake in bytes (WebSocket: request or status line, and
    /// headers). Default 16 KiB, which fits browsers with many cookies; at least 1.
    ///
    /// A server answers a larger one with 431; a client ends the session. Interim responses (1xx, at most 8)
    /// before the server's response count too.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.config.max_head = bytes;
        self
    }

    /// Sets how many undecoded bytes are held for a decoder that still asks for more. Default `max_frame` +
    /// 64 KiB, at least 1.
    ///
    /// A safety net for codecs that do not check lengths: beyond it the session ends with a codec error.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.config.max_buffered = Some(bytes);
        self
    }

    /// Sets the watermarks of the send queue in bytes. Default 32 KiB and 64 KiB, as in Netty.
    ///
    /// With more than `high` bytes queued, the session is not writable: handles refuse or wait until the
    /// queue is down to `low`.
    ///
    /// With more than `high` bytes of *replies* queued, the session stops delivering messages, and so stops
    /// reading, until they are down to `low`. A reply is anything sent while a message is handled. So a
    /// listener that replies to each message with one of similar size is never refused, and a peer that sends
    /// without reading uses only its own share of memory. Other messages do not stop reading: otherwise a
    /// client that streams to an echo server and the server could each wait for the other to read.
    ///
    /// Bytes are counted, not messages. A queued message takes two extra bytes, or a series of messages of
    /// one size six in total; buffers may be twice as large as their contents.
    ///
    /// The watermarks also bound the queue of the driver's `Receiver`: with `high` bytes of received messages
    /// in it, the session stops reading until they are down to `low`.
    pub fn watermarks(mut self, low: usize, high: usize) -> Self {
        self.config.low_watermark = low;
        self.config.high_watermark = high;
        self
    }

    /// Sets the number of queued bytes at which [`Session::send`](crate::Session::send) refuses. Default 1
    /// MiB, at least the high watermark.
    ///
    /// An item is refused if it would exceed this limit while more than the high watermark is queued, so a
    /// single item larger than the limit still fits a nearly empty queue. For a reply only queued replies
    /// count: other messages do not take its room. A queue therefore holds at most `max_queued`, the high
    /// watermark and two messages.
    pub fn max_queued(mut self, bytes: usize) -> Self {
        self.config.max_queued = bytes;
        self
    }

    /// Sets the size from which an encoder's [`Bytes`](bytes::Bytes) payload is sent without copying. Default
    /// 8 KiB.
    ///
    /// Below it, copying is cheaper than two more slices in a vectored write: echoing 1 KiB messages over
    /// loopback, 16 at a time, took a tenth less CPU with copies; at 16 KiB both were equal. The overhead of
    /// an uncopied payload is not counted: 40 bytes, and the rest of the memory block it is part of.
    pub fn zero_copy_from(mut self, bytes: usize) -> Self {
        self.config.zero_copy_from = bytes;
        self
    }

    /// Sets how many items may wait in the queue of a session's handles. Default 256, at least 1.
    ///
    /// Used by the driver, not by the core. When the queue is full, `try_send` returns the item and `send`
    /// waits. An item has no size before encoding, so the limit counts items, not bytes: choose less for
    /// large items. The limit also applies to the messages in the queue of a `Receiver`, besides their
    /// [`watermarks`](Self::watermarks).
    pub fn handle_queue(mut self, items: usize) -> Self {
        self.config.handle_queue = items;
        self
    }

    /// Sets how many bytes of messages are received ahead while a connection waits to write. Default 16 MiB,
    /// at least 1.
    ///
    /// Used by the driver's `Connection`, not by the core. A peer stops reading once its replies are not
    /// received. So `send`, `feed` and `flush` receive while they wait, into a queue that `recv` reads first.
    /// A message weighs its bytes on the wire, or its payload if it was compressed or came in several frames,
    /// and at least the size of its value; one message may exceed the limit. These calls fail when the queue
    /// is full and the peer takes nothing, since it waits for us to receive.
    ///
    /// A message of 16 KiB or more is a slice of the bytes read with it, at most 128 KiB: a peer that sends
    /// little else may make this hold eight times the limit.
    ///
    /// 16 MiB is enough to send tens of thousands of requests before reading the first reply, and not too
    /// much for one client connection. With many connections to untrusted peers, choose less.
    pub fn receive_ahead(mut self, bytes: usize) -> Self {
        self.config.receive_ahead = bytes;
        self
    }

    /// Sets the time in which the session must be open, with all layers and handshakes. Default 10 s.
    ///
    /// Codecs on a plain byte stream have no handshake: their sessions are open at once.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// Sets how long a frame may stay incomplete without 64 KiB of progress. Default 30 s; `None` is forever.
    ///
    /// This also applies to a WebSocket message of several frames, which is held until its last one: pings
    /// between them are not progress. Received as `websocket::Parts`, a message may take any time between two
    /// frames, since nothing of it is held except a decompressor, if it is compressed.
    ///
    /// Ends sessions of peers that send a byte now and then to hold a connection (slow-loris) or memory.
    /// Suspended while the session does not read.
    pub fn partial_frame_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.partial_frame_timeout = timeout.into();
        self
    }

    /// Sets how long queued bytes may wait without any being taken. Default 30 s; `None` is forever.
    ///
    /// Ends sessions of peers that are gone or do not read.
    pub fn write_stall_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.write_stall_timeout = timeout.into();
        self
    }

    /// Sets how long a graceful close may take: flushing, half-closing, and waiting for the peer's end.
    /// Default 5 s. After that the session is aborted.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = timeout;
        self
    }

    /// Sets the period of [`Event::Cron`](crate::Event::Cron). Off by default.
    pub fn cron_period(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.cron_period = period.into();
        self
    }

    /// Sets the period of pings, where the protocol has them (WebSocket). Off by default; a `cron_period`
    /// then sends them, as in Go getty. The reply is reported as [`Event::Pong`](crate::Event::Pong).
    pub fn heartbeat_period(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.heartbeat_period = period.into();
        self
    }

    /// Sets how long the peer may take to answer a ping (WebSocket). Default 10 s; `None` is forever.
    ///
    /// Anything received from the peer counts as an answer, so no pong is needed while data flows.
    pub fn pong_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.pong_timeout = timeout.into();
        self
    }

    /// Sets the time without received bytes before [`Idle::Read`](crate::Idle::Read). Off by default.
    pub fn idle_read(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.idle_read = period.into();
        self
    }

    /// Sets the time without sent bytes before [`Idle::Write`](crate::Idle::Write). Off by default.
    pub fn idle_write(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.idle_write = period.into();
        self
    }

    /// Sets the time without bytes either way before [`Idle::Both`](crate::Idle::Both). Off by default.
    pub fn idle_both(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.idle_both = period.into();
        self
    }

    /// Sets how long an open session may be without bytes either way before it is closed gracefully. Off by
    /// default: many sessions are quiet by design, and the library can't know for how long.
    ///
    /// The reason is [`Deadline::Idle`](crate::Deadline::Idle); a WebSocket peer gets 1001. Pings and pongs
    /// are bytes: with a [`heartbeat_period`](Self::heartbeat_period) a silent peer is found only by
    /// [`pong_timeout`](Self::pong_timeout). The time does not run while the session is paused, or while it
    /// stops reading because of unread replies. With datagrams, it ends the session of one peer and that of a
    /// connected socket, but never the one that a socket has for all its peers.
    ///
    /// To decide in each case, set `idle_read`, `idle_write` or `idle_both` instead, and close on the event.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.idle_timeout = timeout.into();
        self
    }

    /// Checks the values and makes a configuration to share.
    ///
    /// # Errors
    /// [`ConfigError`] names the invalid value.
    pub fn build(self) -> Result<Arc<Config>, ConfigError> {
        let c = self.config;
        let at_least_one = [
            ("max_frame", c.max_frame),
            ("max_message", c.max_message),
            ("max_datagram", c.max_datagram),
            ("max_head", c.max_head),
            ("max_buffered", c.max_buffered()),
            ("handle_queue", c.handle_queue),
            ("receive_ahead", c.receive_ahead),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(ConfigError::Zero { name });
            }
        }
        if c.low_watermark > c.high_watermark || c.high_watermark > c.max_queued {
            return Err(ConfigError::Watermarks {
                low: c.low_watermark,
                high: c.high_watermark,
                max_queued: c.max_queued,
            });
        }
        let periods = [
            ("handshake_timeout", Some(c.handshake_timeout)),
            ("partial_frame_timeout", c.partial_frame_timeout),
            ("write_stall_timeout", c.write_stall_timeout),
            ("close_timeout", Some(c.close_timeout)),
            ("cron_period", c.cron_period),
            ("heartbeat_period", c.heartbeat_period),
            ("pong_timeout", c.pong_timeout),
            ("idle_read", c.idle_read),
            ("idle_write", c.idle_write),
            ("idle_both", c.idle_both),
            ("idle_timeout", c.idle_timeout),
        ];
        for (name, period) in periods {
            if let Some(value) = period.filter(|p| !PERIODS.contains(p)) {
                return Err(ConfigError::Period { name, value });
            }
        }
        Ok(Arc::new(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones_and_valid() {
        let c = Config::builder().build().unwrap();
        assert_eq!(c.max_frame(), 8 << 20);
        assert_eq!((c.max_message(), c.max_head(), c.max_datagram()), (8 << 20, 16 << 10, 65_507));
        assert_eq!(c.max_buffered(), (8 << 20) + (64 << 10));
        assert_eq!((c.heartbeat_period(), c.pong_timeout()), (None, Some(Duration::from_secs(10))));
        assert_eq!((c.low_watermark(), c.high_watermark(), c.max_queued()), (32 << 10, 64 << 10, 1 << 20));
        assert_eq!((c.zero_copy_from(), c.handle_queue(), c.receive_ahead()), (8 << 10, 256, 16 << 20));
        assert_eq!(c.handshake_timeout(), Duration::from_secs(10));
        assert_eq!(c.partial_frame_timeout(), Some(Duration::from_secs(30)));
        assert_eq!(c.write_stall_timeout(), Some(Duration::from_secs(30)));
        assert_eq!(c.close_timeout(), Duration::from_secs(5));
        assert_eq!((c.cron_period(), c.idle_read(), c.idle_write(), c.idle_both()), (None, None, None, None));
        assert_eq!(c.idle_timeout(), None);
    }

    #[test]
    fn periods_from_a_millisecond_to_a_year() {
        let year = Duration::from_secs(365 * 86_400);
        for good in [Duration::from_millis(1), year] {
            assert!(Config::builder().cron_period(good).close_timeout(good).build().is_ok());
        }
        for bad in [Duration::ZERO, Duration::from_micros(999), year + Duration::from_nanos(1), Duration::MAX]
        {
            let error = Config::builder().idle_read(bad).build().unwrap_err();
            assert!(
                matches!(error, ConfigError::Period { name: "idle_read", value } if value == bad),
                "{error}"
            );
        }
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        assert!(matches!(
            Config::builder().max_frame(0).build(),
            Err(ConfigError::Zero { name: "max_frame" })
        ));
        assert!(matches!(Config::builder().handle_queue(0).build(), Err(ConfigError::Zero { .. })));
        assert!(matches!(Config::builder().receive_ahead(0).build(), Err(ConfigError::Zero { .. })));
        let error = Config::builder().watermarks(10, 5).build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "watermarks must rise: low 10, high 5, max_queued 1048576 (expected low <= high <= max_queued)"
        );
        assert!(Config::builder().watermarks(0, 2 << 20).build().is_err());
        assert!(Config::builder().watermarks(0, 0).max_queued(0).build().is_ok());
    }
}
