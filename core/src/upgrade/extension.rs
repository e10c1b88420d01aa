//! [`Deflate`]: options and negotiation of permessage-deflate.

use std::fmt::Write;
use std::mem;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

const MIN_WINDOW_BITS: u8 = 8;
const MAX_WINDOW_BITS: u8 = 15;

/// Compression of messages: permessage-deflate (RFC 7692), as a client offers it or a server accepts it.
///
/// | setter | effect | default |
/// |---|---|---|
/// | [`server_no_context_takeover`] | the server compresses every message on its own | yes |
/// | [`client_no_context_takeover`] | the client compresses every message on its own | yes |
/// | [`server_max_window_bits`] | distance that the server's data may refer back | 15 (32 KiB) |
/// | [`client_max_window_bits`] | distance that the client's data may refer back | 15 (32 KiB) |
/// | [`insist_on_server_no_context_takeover`] | a client accepts nothing else | no |
/// | [`level`] | compression effort | 3 |
/// | [`min_size`] | smallest message that is compressed | 128 bytes |
///
/// [`server_no_context_takeover`]: Self::server_no_context_takeover
/// [`client_no_context_takeover`]: Self::client_no_context_takeover
/// [`server_max_window_bits`]: Self::server_max_window_bits
/// [`client_max_window_bits`]: Self::client_max_window_bits
/// [`insist_on_server_no_context_takeover`]: Self::insist_on_server_no_context_takeover
/// [`level`]: Self::level
/// [`min_size`]: Self::min_size
///
/// # Memory
/// With *context takeover* a message can refer to earlier messages, which shrinks small and similar messages
/// a lot. In exchange a session keeps its compressor and decompressor between messages, and these are large:
///
/// | window bits | compressor, bytes | decompressor, bytes |
/// |---|---|---|
/// | 8, 9 | 251 008 | 47 552 |
/// | 10 | 253 056 | 47 552 |
/// | 11 | 257 152 | 47 552 |
/// | 12 | 265 344 | 47 552 |
/// | 13 | 281 728 | 47 552 |
/// | 14 | 314 496 | 47 552 |
/// | 15 | 380 032 | 47 552 |
///
/// Ten thousand idle sessions would hold 3 to 4 GB. So by default there is no context takeover in either
/// direction: compressor and decompressor are made for each message and dropped after it, and an idle session
/// holds neither. A client's session keeps a decompressor if the server does not agree. Making them takes 4
/// µs and 0.3 µs, and more if the allocator returns memory to the system in between. A client with one
/// session to a server that allows it can easily afford context takeover.
///
/// Of a compressor, 240 KB are zlib-rs's hash table and buffers (its `memLevel` is 8, which `flate2` can't
/// change) and do not depend on the window. A decompressor always has a window of 32 KiB: a smaller window of
/// the peer saves memory only at the peer.
///
/// # Secrets
/// The size of a compressed message reveals something about its content. Do not compress a secret together
/// with data that an attacker can choose (the CRIME and BREACH attacks). With context takeover, "together"
/// means in one session.
///
/// # Examples
/// Context takeover in both directions, with a window of 4 KiB for what this client sends:
///
/// ```
/// use getty_core::websocket::Deflate;
///
/// let deflate = Deflate::new()
///     .server_no_context_takeover(false)
///     .client_no_context_takeover(false)
///     .client_max_window_bits(12);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deflate {
    wanted: Params,
    insists: bool,
    pub(crate) level: u8,
    pub(crate) min_size: usize,
}

impl Deflate {
    /// Makes the default options, which hold nothing between messages; see the [table](Self).
    pub const fn new() -> Self {
        Deflate {
            wanted: Params {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: MAX_WINDOW_BITS,
                client_max_window_bits: MAX_WINDOW_BITS,
            },
            insists: false,
            level: 3,
            min_size: 128,
        }
    }

    /// Sets whether the server must compress every message on its own (RFC 7692 section 7.1.1.1). The default
    /// is true, to save [memory](Self#memory) at both ends.
    ///
    /// `false` leaves it to the peer: a client can still ask for it, and a server can still do it.
    ///
    /// If a server does not agree to a client's request, the client keeps a decompressor for the session. See
    /// [`insist_on_server_no_context_takeover`](Self::insist_on_server_no_context_takeover).
    #[must_use]
    pub const fn server_no_context_takeover(mut self, yes: bool) -> Self {
        self.wanted.server_no_context_takeover = yes;
        self
    }

    /// Sets whether a client that asks for [`server_no_context_takeover`](Self::server_no_context_takeover)
    /// fails the connection if the server accepts compression without it. The default is false: some servers
    /// do not know the parameter, and a client can do without. For clients with many sessions and little
    /// memory.
    #[must_use]
    pub const fn insist_on_server_no_context_takeover(mut self, yes: bool) -> Self {
        self.insists = yes;
        self
    }

    /// Sets whether the client must compress every message on its own (RFC 7692 section 7.1.1.2). The default
    /// is true, to save [memory](Self#memory) at both ends.
    ///
    /// `false` leaves it to the peer: a client can still do it, and a server can still ask for it.
    #[must_use]
    pub const fn client_no_context_takeover(mut self, yes: bool) -> Self {
        self.wanted.client_no_context_takeover = yes;
        self
    }

    /// Sets the server's largest window, as the base-2 logarithm of its bytes (RFC 7692 section 7.1.2.1): 8
    /// to 15. Other values count as the nearest of these. The default is 15, which compresses best.
    ///
    /// The peer can make it smaller. A client that sets less than 15 fails the connection if the server
    /// accepts compression but not the limit.
    #[must_use]
    pub const fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.wanted.server_max_window_bits = window_bits_within_bounds(bits);
        self
    }

    /// Sets the client's largest window, as the base-2 logarithm of its bytes (RFC 7692 section 7.1.2.2): 8
    /// to 15. Other values count as the nearest of these. The default is 15, which compresses best.
    ///
    /// The peer can make it smaller. A server can ask for less than 15 only if the client announced support
    /// for it; other clients use 15.
    #[must_use]
    pub const fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.wanted.client_max_window_bits = window_bits_within_bounds(bits);
        self
    }

    /// Sets the compression effort, from 0 (none) and 1 (fastest) to 9. More counts as 9.
    ///
    /// The default is 3. Messages of 64 KiB (JSON, source text) shrink to 18.9 % and 31.3 % of their size, in
    /// two thirds of the time that level 6, zlib's default, takes for 17.9 % and 30.0 %. Level 1 takes a half
    /// to a third of the time of level 3, for 27.8 % and 43.3 %. For messages up to 4 KiB the levels from 2
    /// on hardly differ.
    #[must_use]
    pub const fn level(mut self, level: u8) -> Self {
        self.level = if level > 9 { 9 } else { level };
        self
    }

    /// Sets the size, in bytes, of the smallest message that is compressed. Smaller ones are sent
    /// uncompressed.
    ///
    /// The default is 128. Without context takeover, JSON of 64 bytes shrinks to 95 % of its size, of 128
    /// bytes to 76 % and of 256 bytes to 51 %, for 5 to 7 µs each. With context takeover small messages
    /// shrink too, so a smaller value can pay off.
    #[must_use]
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Picks the first acceptable offer of a client; `offers` are the values of its
    /// `Sec-WebSocket-Extensions` headers. Returns the agreed parameters and the value of the response's
    /// header.
    ///
    /// An offer that can't be understood is declined like one that can't be met (RFC 7692 section 7.1).
    pub(crate) fn accept<'a>(&self, offers: impl Iterator<Item = &'a str>) -> Option<(Params, String)> {
        extensions(offers).find_map(|(name, parameters)| {
            if name != NAME {
                return None;
            }
            Some(self.accept_offer(Parameters::parse(parameters).ok()?))
        })
    }

    fn accept_offer(&self, offer: Parameters) -> (Params, String) {
        let agreed = Params {
            server_no_context_takeover: self.wanted.server_no_context_takeover
                || offer.server_no_context_takeover,
            client_no_context_takeover: self.wanted.client_no_context_takeover
                || offer.client_no_context_takeover,
            server_max_window_bits: self
                .wanted
                .server_max_window_bits
                .min(offer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS)),
            client_max_window_bits: match offer.client_max_window_bits {
                Some(bits) => self.wanted.client_max_window_bits.min(bits.unwrap_or(MAX_WINDOW_BITS)),
                None => MAX_WINDOW_BITS,
            },
        };
        let mut answer = Header::new();
        answer.flag(SERVER_NO_CONTEXT_TAKEOVER, agreed.server_no_context_takeover);
        answer.flag(CLIENT_NO_CONTEXT_TAKEOVER, agreed.client_no_context_takeover);
        // The response to an offer with a limit for the server must state the limit, even 15.
        if offer.server_max_window_bits.is_some() || agreed.server_max_window_bits < MAX_WINDOW_BITS {
            answer.bits(SERVER_MAX_WINDOW_BITS, agreed.server_max_window_bits);
        }
        if agreed.client_max_window_bits < MAX_WINDOW_BITS {
            answer.bits(CLIENT_MAX_WINDOW_BITS, agreed.client_max_window_bits);
        }
        (agreed, answer.0)
    }

    /// Makes a client's offer: the value of its `Sec-WebSocket-Extensions` header.
    pub(crate) fn offer(&self) -> String {
        let mut offer = Header::new();
        offer.flag(SERVER_NO_CONTEXT_TAKEOVER, self.wanted.server_no_context_takeover);
        offer.flag(CLIENT_NO_CONTEXT_TAKEOVER, self.wanted.client_no_context_takeover);
        if self.wanted.server_max_window_bits < MAX_WINDOW_BITS {
            offer.bits(SERVER_MAX_WINDOW_BITS, self.wanted.server_max_window_bits);
        }
        if self.wanted.client_max_window_bits < MAX_WINDOW_BITS {
            offer.bits(CLIENT_MAX_WINDOW_BITS, self.wanted.client_max_window_bits);
        } else {
            // Without a value: it allows the server to set a limit.
            offer.flag(CLIENT_MAX_WINDOW_BITS, true);
        }
        offer.0
    }

    /// Checks a server's response to [`offer`](Self::offer); `values` are those of its
    /// `Sec-WebSocket-Extensions` headers. Returns the agreed parameters, or `None` if the server does not
    /// compress.
    ///
    /// After an error the client must fail the connection (RFC 7692 section 7.1, RFC 6455 section 4.1).
    pub(crate) fn check_answer<'a>(
        &self,
        values: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Params>, NegotiationError> {
        let mut agreed = None;
        for (name, parameters) in extensions(values) {
            if name != NAME {
                return Err(NegotiationError::NotOffered { extension: name.to_owned() });
            }
            let params = self.check_parameters(Parameters::parse(parameters)?)?;
            if agreed.replace(params).is_some() {
                return Err(NegotiationError::Repeated { name: NAME });
            }
        }
        Ok(agreed)
    }

    fn check_parameters(&self, answer: Parameters) -> Result<Params, NegotiationError> {
        let insists = self.insists && self.wanted.server_no_context_takeover;
        if insists && !answer.server_no_context_takeover {
            return Err(NegotiationError::Missing { parameter: SERVER_NO_CONTEXT_TAKEOVER });
        }
        let server_max_window_bits = match answer.server_max_window_bits {
            Some(bits) => within_offer(SERVER_MAX_WINDOW_BITS, self.wanted.server_max_window_bits, bits)?,
            None if self.wanted.server_max_window_bits < MAX_WINDOW_BITS => {
                return Err(NegotiationError::Missing { parameter: SERVER_MAX_WINDOW_BITS });
            }
            None => MAX_WINDOW_BITS,
        };
        let client_max_window_bits = match answer.client_max_window_bits {
            Some(Some(bits)) => {
                within_offer(CLIENT_MAX_WINDOW_BITS, self.wanted.client_max_window_bits, bits)?
            }
            Some(None) => {
                return Err(NegotiationError::Parameter { text: CLIENT_MAX_WINDOW_BITS.to_owned() });
            }
            None => self.wanted.client_max_window_bits,
        };
        Ok(Params {
            server_no_context_takeover: answer.server_no_context_takeover,
            client_no_context_takeover: self.wanted.client_no_context_takeover
                || answer.client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        })
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

/// The negotiated parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Params {
    /// The server compresses every message on its own.
    pub server_no_context_takeover: bool,
    /// The client compresses every message on its own.
    pub client_no_context_takeover: bool,
    /// Base-2 logarithm of the server's window in bytes: 8 to 15.
    pub server_max_window_bits: u8,
    /// Base-2 logarithm of the client's window in bytes: 8 to 15.
    pub client_max_window_bits: u8,
}

/// A server's response does not match the client's offer of permessage-deflate. The connection fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The server chose an extension that was not offered.
    #[error("the server answered with the extension {extension:?}, but only permessage-deflate was offered")]
    NotOffered {
        /// The extension's name.
        extension: String,
    },
    /// The extension or one of its parameters came more than once.
    #[error("the server's answer has {name} more than once")]
    Repeated {
        /// The name of the extension or parameter.
        name: &'static str,
    },
    /// A parameter is unknown, or its value is not allowed in a response.
    #[error(
        "the server's answer has the parameter {text:?}, expected server_no_context_takeover, \
         client_no_context_takeover, server_max_window_bits=8..15 or client_max_window_bits=8..15 \
         (RFC 7692 section 7.1)"
    )]
    Parameter {
        /// The received parameter.
        text: String,
    },
    /// The server accepted the offer without one of its conditions.
    #[error("the server's answer lacks {parameter}, which was a condition of the offer")]
    Missing {
        /// Name of the parameter.
        parameter: &'static str,
    },
    /// The server chose a larger window than was offered.
    #[error("the server answered with {parameter}={answered}, expected at most {offered} as offered")]
    WindowTooLarge {
        /// Name of the parameter.
        parameter: &'static str,
        /// Window bits in the offer.
        offered: u8,
        /// Window bits in the answer.
        answered: u8,
    },
}

/// The value of a `Sec-WebSocket-Extensions` header, being written.
struct Header(String);

impl Header {
    fn new() -> Self {
        Header(NAME.to_owned())
    }

    fn flag(&mut self, parameter: &str, on: bool) {
        if on {
            let _ = write!(self.0, "; {parameter}");
        }
    }

    fn bits(&mut self, parameter: &str, bits: u8) {
        let _ = write!(self.0, "; {parameter}={bits}");
    }
}

/// The received parameters of an offer or a response.
#[derive(Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// In an offer it may have no value.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    fn parse<'a>(pieces: impl Iterator<Item = &'a str>) -> Result<Self, NegotiationError> {
        let mut parameters = Parameters::default();
        for piece in pieces {
            let invalid = || NegotiationError::Parameter { text: piece.to_owned() };
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => {
                    (name.trim_ascii_end(), Some(parse_window_bits(value).ok_or_else(invalid)?))
                }
                None => (piece, None),
            };
            let (name, repeated) = match (name, value) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => (
                    SERVER_NO_CONTEXT_TAKEOVER,
                    mem::replace(&mut parameters.server_no_context_takeover, true),
                ),
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => (
                    CLIENT_NO_CONTEXT_TAKEOVER,
                    mem::replace(&mut parameters.client_no_context_takeover, true),
                ),
                (SERVER_MAX_WINDOW_BITS, Some(bits)) => {
                    (SERVER_MAX_WINDOW_BITS, parameters.server_max_window_bits.replace(bits).is_some())
                }
                (CLIENT_MAX_WINDOW_BITS, bits) => {
                    (CLIENT_MAX_WINDOW_BITS, parameters.client_max_window_bits.replace(bits).is_some())
                }
                _ => return Err(invalid()),
            };
            if repeated {
                return Err(NegotiationError::Repeated { name });
            }
        }
        Ok(parameters)
    }
}

/// The extensions listed in the values of headers, each as its name and parameters (RFC 6455 section 9.1).
fn extensions<'a>(
    values: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, impl Iterator<Item = &'a str>)> {
    values.flat_map(|value| split(value, ',')).filter(|extension| !extension.is_empty()).map(|extension| {
        let mut pieces = split(extension, ';');
        (pieces.next().unwrap_or_default(), pieces)
    })
}

/// Splits `text` at every unquoted `separator`, and trims the spaces around the pieces.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let at_separator = move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    };
    text.split(at_separator).map(str::trim_ascii)
}

/// Window bits as a token or a quoted string: 8 to 15, in decimal, without a sign or leading zeros.
fn parse_window_bits(value: &str) -> Option<u8> {
    let value = value.trim_ascii_start();
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match unquoted.unwrap_or(value).as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

fn within_offer(parameter: &'static str, offered: u8, answered: u8) -> Result<u8, NegotiationError> {
    if answered <= offered {
        Ok(answered)
    } else {
        Err(NegotiationError::WindowTooLarge { parameter, offered, answered })
    }
}

const fn window_bits_within_bounds(bits: u8) -> u8 {
    match bits {
        ..MIN_WINDOW_BITS => MIN_WINDOW_BITS,
        MIN_WINDOW_BITS..=MAX_WINDOW_BITS => bits,
        _ => MAX_WINDOW_BITS,
    }
}

#[cfg(test)]
mod tests;
