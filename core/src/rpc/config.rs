//! [`Config`]: the limits of one side.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;
use crate::rpc::frame::Hello;

/// The header of a frame in bytes, which the session's limit includes.
const HEADER: u32 = 12;

/// The limits of one side of an RPC connection. They hold for each connection.
///
/// ```
/// use std::time::Duration;
///
/// use getty_core::rpc::Config;
///
/// let config = Config::builder().max_calls(512).heartbeat(None).build()?;
/// assert_eq!(config.max_calls(), 512);
/// # Ok::<(), getty_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    max_calls: u32,
    max_waiting: usize,
    max_waiting_bytes: usize,
    max_pending_bytes: usize,
    window: u32,
    max_item: usize,
    max_frame: u32,
    deflate: bool,
    deadlines: Deadlines,
    hello_timeout: Duration,
    cancel_grace: Duration,
    heartbeat: Option<Duration>,
    heartbeat_timeout: Duration,
    reset_burst: u32,
    reset_rate: u32,
}

/// The limits that a side sets to the time of the calls that it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) default: Option<Duration>,
}

impl Deadlines {
    /// The time for a call whose caller waits for `asked`. `None`: no limit.
    pub(crate) fn clamp(&self, asked: Option<Duration>) -> Option<Duration> {
        match asked {
            Some(asked) => Some(asked.max(self.min).min(self.max)),
            None => self
                .default
                .map(|default| default.min(self.max))
                .or((self.max < Duration::MAX).then_some(self.max)),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_calls: 256,
            max_waiting: 1024,
            max_waiting_bytes: 16 * 1024 * 1024,
            max_pending_bytes: 16 * 1024 * 1024,
            window: 64 * 1024,
            max_item: 1024 * 1024,
            max_frame: 8 * 1024 * 1024 - HEADER,
            deflate: false,
            deadlines: Deadlines { min: Duration::ZERO, max: Duration::MAX, default: None },
            hello_timeout: Duration::from_secs(10),
            cancel_grace: Duration::from_secs(60),
            heartbeat: Some(Duration::from_secs(30)),
            heartbeat_timeout: Duration::from_secs(20),
            reset_burst: 1000,
            reset_rate: 200,
        }
    }
}

impl Config {
    /// Returns a builder with the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder { config: Config::default() }
    }

    /// Returns a builder with these limits.
    pub fn to_builder(&self) -> ConfigBuilder {
        ConfigBuilder { config: self.clone() }
    }

    /// See [`ConfigBuilder::max_calls`].
    pub fn max_calls(&self) -> u32 {
        self.max_calls
    }

    /// See [`ConfigBuilder::max_waiting`].
    pub fn max_waiting(&self) -> usize {
        self.max_waiting
    }

    /// See [`ConfigBuilder::max_waiting_bytes`].
    pub fn max_waiting_bytes(&self) -> usize {
        self.max_waiting_bytes
    }

    /// See [`ConfigBuilder::max_pending_bytes`].
    pub fn max_pending_bytes(&self) -> usize {
        self.max_pending_bytes
    }

    /// See [`ConfigBuilder::window`].
    pub fn window(&self) -> u32 {
        self.window
    }

    /// See [`ConfigBuilder::max_item`].
    pub fn max_item(&self) -> usize {
        self.max_item
    }

    /// See [`ConfigBuilder::max_frame`].
    pub fn max_frame(&self) -> u32 {
        self.max_frame
    }

    /// Whether bodies compressed with deflate are taken. See `ConfigBuilder::deflate`, with feature
    /// `deflate`.
    pub fn deflate(&self) -> bool {
        self.deflate
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// See [`ConfigBuilder::hello_timeout`].
    pub fn hello_timeout(&self) -> Duration {
        self.hello_timeout
    }

    /// See [`ConfigBuilder::cancel_grace`].
    pub fn cancel_grace(&self) -> Duration {
        self.cancel_grace
    }

    /// See [`ConfigBuilder::heartbeat`].
    pub fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// See [`ConfigBuilder::heartbeat_timeout`].
    pub fn heartbeat_timeout(&self) -> Duration {
        self.heartbeat_timeout
    }

    /// See [`ConfigBuilder::resets`].
    pub fn reset_burst(&self) -> u32 {
        self.reset_burst
    }

    /// See [`ConfigBuilder::resets`].
    pub fn reset_rate(&self) -> u32 {
        self.reset_rate
    }
}

/// Builds a [`Config`].
#[derive(Debug, Clone)]
#[must_use = "call build"]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// Sets how many calls of the peer are taken at once. Default 256, at least 16, at most 32 768. One more
    /// is refused as not executed. A handler counts until its future has ended, also after a cancel.
    pub fn max_calls(mut self, calls: u32) -> Self {
        self.config.max_calls = calls;
        self
    }

    /// Sets how many calls of this side wait until the peer takes them. Default 1024, at most 30 000. One
    /// more is refused.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.config.max_waiting = calls;
        self
    }

    /// Sets how many bytes the calls of this side hold that wait for the peer or for the transport. Default
    /// 16 MiB. A call is refused while they hold more.
    pub fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.config.max_waiting_bytes = bytes;
        self
    }

    /// Sets how many bytes of the peer are held: requests until their handler has ended, and items that
    /// nobody has taken. Default 16 MiB. A request beyond it is refused as not executed, and an item beyond
    /// it ends its call. As many bytes of answers may wait for the transport before requests are refused.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.config.max_pending_bytes = bytes;
        self
    }

    /// Sets how many bytes the peer may send on a stream before its items are taken. Default 64 KiB, at
    /// least 16 KiB. An item costs its length and 32 bytes; the last one may exceed the window. Of the items
    /// that this side sends, as many wait for the transport on each stream, whatever the peer allows.
    pub fn window(mut self, bytes: u32) -> Self {
        self.config.window = bytes;
        self
    }

    /// Sets the size of the largest item of a stream in bytes, sent or received. Default 1 MiB. A larger one
    /// ends its call.
    pub fn max_item(mut self, bytes: usize) -> Self {
        self.config.max_item = bytes;
        self
    }

    /// Sets the size of the largest frame that the peer may send, in bytes after the header. Default 8 MiB -
    /// 12, at least 64 KiB. The session's [`Config::max_frame`](crate::Config::max_frame) must be at least 12
    /// bytes more.
    pub fn max_frame(mut self, bytes: u32) -> Self {
        self.config.max_frame = bytes;
        self
    }

    /// Sets whether bodies that the peer has compressed with DEFLATE are taken. Default false: decompressing
    /// takes up to 7 ns for each byte that comes out, which may be a thousand for each that came in.
    ///
    /// What comes out is at most `max_frame` long, or `max_item`, and counts in
    /// [`max_pending_bytes`](Self::max_pending_bytes). The peer compresses nothing unless this is set.
    #[cfg(feature = "deflate")]
    pub fn deflate(mut self, deflate: bool) -> Self {
        self.config.deflate = deflate;
        self
    }

    /// Sets the limits of the time of calls of the peer: a shorter time is raised to `min`, a longer one cut
    /// to `max`, and a call without any has `default`, which lies between the two. By default there is no
    /// limit.
    pub fn deadlines(mut self, min: Duration, max: Duration, default: Duration) -> Self {
        self.config.deadlines = Deadlines { min, max, default: Some(default) };
        self
    }

    /// Sets how long the peer may take for its first frame. Default 10 s. Then the connection ends.
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.config.hello_timeout = timeout;
        self
    }

    /// Sets how long the peer may leave a cancelled call without an answer. Default 60 s; every frame of the
    /// peer starts it anew. Then the peer is broken and the connection ends.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.config.cancel_grace = grace;
        self
    }

    /// Sets after how much silence of the peer a ping is sent. Default 30 s. `None`: never, for a transport
    /// with a heartbeat of its own.
    pub fn heartbeat(mut self, period: Option<Duration>) -> Self {
        self.config.heartbeat = period;
        self
    }

    /// Sets how long the peer may be silent after a ping. Default 20 s. Then the connection ends.
    pub fn heartbeat_timeout(mut self, timeout: Duration) -> Self {
        self.config.heartbeat_timeout = timeout;
        self
    }

    /// Sets how much useless work a peer may cause: cancels before an answer, malformed frames, calls over
    /// the limit. It may cause `burst` of it at once (default 1000) and `rate` a second (default 200); a call
    /// that is answered gives one back. A peer that exceeds it is sent away.
    pub fn resets(mut self, burst: u32, rate: u32) -> Self {
        self.config.reset_burst = burst;
        self.config.reset_rate = rate;
        self
    }

    /// Builds the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names a value outside its range.
    pub fn build(self) -> Result<Arc<Config>, ConfigError> {
        let c = self.config;
        let ranges = [
            ("max_calls", u64::from(c.max_calls), u64::from(Hello::MIN_CALLS), 32_768),
            ("max_waiting", c.max_waiting as u64, 1, 30_000),
            ("max_waiting_bytes", c.max_waiting_bytes as u64, 1, u64::MAX),
            ("max_pending_bytes", c.max_pending_bytes as u64, 1, u64::MAX),
            ("window", c.window.into(), Hello::MIN_WINDOW.into(), i32::MAX as u64),
            ("max_item", c.max_item as u64, 1, i32::MAX as u64),
            ("max_frame", c.max_frame.into(), Hello::MIN_FRAME.into(), i32::MAX as u64),
            ("resets", c.reset_burst.into(), 1, u64::MAX),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Range { name, value, min, max });
            }
        }
        let times = [
            ("hello_timeout", c.hello_timeout),
            ("cancel_grace", c.cancel_grace),
            ("heartbeat", c.heartbeat.unwrap_or(Duration::MAX)),
            ("heartbeat_timeout", c.heartbeat_timeout),
        ];
        if let Some((name, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(ConfigError::Zero { name });
        }
        if let Deadlines { min, max, default: Some(default) } = c.deadlines {
            if default.is_zero() {
                return Err(ConfigError::Zero { name: "deadlines" });
            }
            if !(min..=max).contains(&default) {
                let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let (value, min, max) = (millis(default), millis(min), millis(max));
                return Err(ConfigError::Range { name: "the default of deadlines in ms", value, min, max });
            }
        }
        Ok(Arc::new(c))
    }
}
