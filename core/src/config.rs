//! [`Config`]: every limit and period of a session.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;

/// The shortest and the longest period that a [`Config`] takes.
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// Every limit and period of a session. Shared by all sessions of an endpoint as `Arc<Config>`.
///
/// Made by [`Config::builder`]; [`Config::default`] is good for the open internet.
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
    hard_limit: usize,
    chain_over: usize,
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
            hard_limit: 1024 * 1024,
            chain_over: 8 * 1024,
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

/// What a frame may be larger than, and still be buffered: room for the header and for what was read with it.
const BUFFERED_BEYOND_FRAME: usize = 64 * 1024;

impl Config {
    /// Starts from the defaults.
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

    /// See [`ConfigBuilder::hard_limit`].
    pub fn hard_limit(&self) -> usize {
        self.hard_limit
    }

    /// See [`ConfigBuilder::chain_over`].
    pub fn chain_over(&self) -> usize {
        self.chain_over
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

/// Makes a [`Config`]; see there. Values are checked in [`build`](Self::build).
///
/// Periods may be 1 ms to 365 days. The limits that bound how long a misbehaving peer can hold a session
/// are on by default; what makes a session do something of its own accord (cron, idle) is off.
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// The largest frame in bytes on the wire, received or sent; for WebSocket, of its payload. Default 8 MiB, at least 1.
    ///
    /// A larger one that is announced ends the session from its header alone, before memory is reserved for
    /// it; one that is sent is refused and the session stays open: with
    /// [`SendError::TooLarge`](crate::SendError::TooLarge) and the item, if the encoder tells sizes beforehand (all of
    /// this crate do), with [`SendError::Encode`](crate::SendError::Encode) otherwise, or if the codec's own limit is
    /// the lower one. 8 MiB fits the payloads people send in practice and bounds what one connection
    /// can make the process hold.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.config.max_frame = bytes;
        self
    }

    /// The largest message in bytes, received or sent, where a message may have several frames or be compressed
    /// (WebSocket). It counts payload, after decompression. Default 8 MiB, at least 1.
    ///
    /// A larger one that is received ends the session (WebSocket: 1009) having allocated no more than this. Most peers,
    /// browsers among them, send a message as one frame: to take larger ones, raise [`max_frame`](Self::max_frame) too.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.config.max_message = bytes;
        self
    }

    /// The largest datagram in bytes, received or sent. Default 65 507, at least 1: what fits UDP over IPv4.
    ///
    /// A larger one that is received is dropped and reported; one that is sent is refused, as for
    /// [`max_frame`](Self::max_frame). What is larger than the network's packets (1 500 bytes on most, some 1 200 that
    /// always pass) arrives only if each of its fragments does.
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        self.config.max_datagram = bytes;
        self
    }

    /// The largest head of an opening handshake in bytes (WebSocket: request or status line, and headers). Default
    /// 16 KiB, at least 1; what browsers send with many cookies fits.
    ///
    /// A server answers a larger one with 431; a client ends the session. Interim responses (1xx, at most 8)
    /// that a server sends before its answer count too.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.config.max_head = bytes;
        self
    }

    /// How many undecoded bytes are held for a decoder that still asks for more. Default `max_frame` + 64
    /// KiB, at least 1.
    ///
    /// This is the net under codecs that don't check lengths themselves: past it the session ends with a
    /// codec error.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.config.max_buffered = Some(bytes);
        self
    }

    /// The watermarks of the send queue, in bytes. Default 32 KiB and 64 KiB (Netty's).
    ///
    /// With more than `high` queued, the session is no longer writable: handles refuse or wait until the queue
    /// is down to `low`.
    ///
    /// With more than `high` of *answers* queued, it stops delivering messages, and so stops reading, until they
    /// are down to `low`. An answer is what is sent while a message is handled. A listener that answers each
    /// message with one of like size is thus never refused, and a peer that sends without reading holds no more
    /// than its own share of memory. What is sent unasked does not stop the reading: if it did, a client that
    /// streams to an echo server and the server would each wait for the other to read.
    ///
    /// Bytes are counted, not messages. A queued message takes two bytes besides its own, or a row of
    /// messages of one size six together; buffers may be twice as large as their content.
    ///
    /// They bound the queue of the driver's `Receiver` too: with `high` bytes of received messages in it, the
    /// session stops reading until they are down to `low`.
    pub fn watermarks(mut self, low: usize, high: usize) -> Self {
        self.config.low_watermark = low;
        self.config.high_watermark = high;
        self
    }

    /// Where [`Session::send`](crate::Session::send) refuses, in queued bytes. Default 1 MiB, at least the high watermark.
    ///
    /// An item is refused if it would pass this limit while more than the high watermark is queued; so a
    /// single item larger than the limit still goes through a queue that is nearly empty. For an answer only
    /// answers count: however much was sent unasked, there is room for it. So a queue holds the hard limit, the
    /// high watermark and two messages at the most.
    pub fn hard_limit(mut self, bytes: usize) -> Self {
        self.config.hard_limit = bytes;
        self
    }

    /// From which size a payload that an encoder hands over as [`Bytes`](bytes::Bytes) is sent from where it
    /// lies instead of being copied. Default 8 KiB.
    ///
    /// Below it copying is cheaper than two more slices in a vectored write: echoing 1 KiB messages, 16 at a
    /// time, over loopback took a tenth less CPU when they were copied; at 16 KiB the two were equal. The
    /// overhead of a payload that is not copied is not counted: 40 bytes, and the rest of the block of memory
    /// that it is a part of.
    pub fn chain_over(mut self, bytes: usize) -> Self {
        self.config.chain_over = bytes;
        self
    }

    /// How many items may wait in the queue of a session's handles. Default 256, at least 1.
    ///
    /// Used by the driver, not by the core. Past it `try_send` gives the item back and `send` waits. An item
    /// has no size before it is encoded, so items are counted here, not bytes: where they are large, choose
    /// less. As many messages may wait in the queue of a `Receiver`, if they are not too large together (see
    /// [`watermarks`](Self::watermarks)).
    pub fn handle_queue(mut self, items: usize) -> Self {
        self.config.handle_queue = items;
        self
    }

    /// How many bytes of messages are received ahead while a connection waits to write. Default 16 MiB, at
    /// least 1.
    ///
    /// Used by the driver's `Connection`, not by the core. A peer that answers stops reading once its answers
    /// are not received. So `send`, `feed` and `flush` receive while they wait, into a queue from which
    /// `recv` takes first. A message weighs its bytes on the wire, or its payload if it was compressed or
    /// came in several frames, and no less than the value itself takes; one message may go past the limit.
    /// When the queue is full and the peer takes nothing, they fail: it waits until it is received from.
    ///
    /// A message of 16 KiB or more is a slice of what was read with it, at most 128 KiB: a peer that sends
    /// little else may have eight times the limit held.
    ///
    /// 16 MiB is enough to send tens of thousands of requests before the first answer is looked at, and not
    /// too much for one connection of a client. With many connections to untrusted peers, choose less.
    pub fn receive_ahead(mut self, bytes: usize) -> Self {
        self.config.receive_ahead = bytes;
        self
    }

    /// How long the peer may take until the session is open, all layers and handshakes together. Default 10 s.
    ///
    /// Codecs on a plain byte stream have no handshake: their sessions are open at once.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// How long a frame may stay incomplete without 64 KiB of progress. Default 30 s; `None` is forever.
    ///
    /// The same goes for a WebSocket message of several frames, which is held until its last one: pings
    /// between them are no progress. Received in `websocket::Parts`, a message may take any time between two
    /// frames, since nothing is held of it but, where it is compressed, the decompressor.
    ///
    /// Ends sessions of peers that send a byte now and then to hold a connection (slow-loris) or memory.
    /// Suspended while the session does not read.
    pub fn partial_frame_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.partial_frame_timeout = timeout.into();
        self
    }

    /// How long queued bytes may wait without the transport taking a single one. Default 30 s; `None` is for
    /// ever.
    ///
    /// Ends sessions of peers that are gone, or don't read.
    pub fn write_stall_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.write_stall_timeout = timeout.into();
        self
    }

    /// How long a graceful close may take: flushing, half-closing, and waiting for the peer's end. Default
    /// 5 s. Past it the session is aborted.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = timeout;
        self
    }

    /// How often [`Event::Cron`](crate::Event::Cron) comes. Off by default.
    pub fn cron_period(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.cron_period = period.into();
        self
    }

    /// How often a ping is sent where the protocol has one (WebSocket). Off by default, when a `cron_period` stands
    /// for it, as in Go getty. The answer is told as [`Event::Pong`](crate::Event::Pong).
    pub fn heartbeat_period(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.heartbeat_period = period.into();
        self
    }

    /// How long the peer may take to answer a ping (WebSocket). Default 10 s; `None` is for ever.
    ///
    /// Whatever else comes from it counts as an answer, so no pong is needed while data flows.
    pub fn pong_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.pong_timeout = timeout.into();
        self
    }

    /// After how long without received bytes [`Idle::Read`](crate::Idle::Read) comes. Off by default.
    pub fn idle_read(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.idle_read = period.into();
        self
    }

    /// After how long without sent bytes [`Idle::Write`](crate::Idle::Write) comes. Off by default.
    pub fn idle_write(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.idle_write = period.into();
        self
    }

    /// After how long without any bytes, either way, [`Idle::Both`](crate::Idle::Both) comes. Off by default.
    pub fn idle_both(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.config.idle_both = period.into();
        self
    }

    /// How long an open session may be without any bytes, either way, before it is closed gracefully. Off by
    /// default, since many sessions are quiet by design until something happens: the library can't know how
    /// long that may take.
    ///
    /// The reason is [`Deadline::Idle`](crate::Deadline::Idle); a WebSocket peer gets 1001. Pings and their
    /// answers are bytes: with a [`heartbeat_period`](Self::heartbeat_period) only a peer that does not
    /// answer is found, by [`pong_timeout`](Self::pong_timeout). While the session is paused, or takes no
    /// more until its answers are read, the time does not run. Of datagrams, it ends the session of one peer
    /// and that of a connected socket, and never the one that a socket has for all its peers.
    ///
    /// To decide in each case, set `idle_read`, `idle_write` or `idle_both` instead, and close on the event.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.idle_timeout = timeout.into();
        self
    }

    /// Checks the values and makes the configuration ready for sharing.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that can't be.
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
        if c.low_watermark > c.high_watermark || c.high_watermark > c.hard_limit {
            return Err(ConfigError::Watermarks {
                low: c.low_watermark,
                high: c.high_watermark,
                hard_limit: c.hard_limit,
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
        assert_eq!((c.low_watermark(), c.high_watermark(), c.hard_limit()), (32 << 10, 64 << 10, 1 << 20));
        assert_eq!((c.chain_over(), c.handle_queue(), c.receive_ahead()), (8 << 10, 256, 16 << 20));
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
            "watermarks must rise: low 10, high 5, hard limit 1048576 (expected low <= high <= hard limit)"
        );
        assert!(Config::builder().watermarks(0, 2 << 20).build().is_err());
        assert!(Config::builder().watermarks(0, 0).hard_limit(0).build().is_ok());
    }
}
