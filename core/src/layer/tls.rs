//! [`Tls`]: TLS 1.2 and 1.3 as a layer, over [`rustls`].
//!
//! The layer adds no cryptography, verifier or clock of its own: they are those of the [`rustls`] configuration that it is
//! given (`rustls::ClientConfig::builder_with_details` takes all three), and so are versions, cipher suites, ALPN,
//! session resumption, client certificates and the key log. getty's adapters bring configurations with safe defaults.
//!
//! A connection has no buffer of its own: records are opened where they were read and sealed where they are written from,
//! in the memory that the session works in.
//!
//! Early data (0-RTT) is not used: it can be replayed.

use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Buf;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, CommonState, HandshakeKind, InvalidMessage,
    ServerConfig,
};

use super::{Layer, LayerError, Plain, SealedBuf, WireBuffers};
use crate::event::Opened;
pub use crate::event::TlsFacts;

/// Why a TLS connection failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer ended the stream without saying so (`close_notify`): somebody may have cut it off.
    #[error("TLS: the stream was cut off: it ended without close_notify")]
    Truncated,
    /// The peer ended the stream before the handshake was done: it may not speak TLS, or have gone away.
    #[error("TLS: the peer ended the stream during the handshake: does it speak TLS?")]
    EndedInHandshake,
    /// What the peer began with is no TLS.
    #[error("TLS: the peer speaks another protocol")]
    NotTls,
    /// The peer's certificate was not accepted.
    #[error("TLS: the peer's certificate is not accepted: {}", reason(.0))]
    Certificate(CertificateError),
    /// The peer told that it does not go on.
    #[error("TLS: the peer refused: {}", alert(.0))]
    Refused(AlertDescription),
    /// More was sealed than one set of keys is safe for, and TLS 1.2 has no way to change them: connect again.
    #[error("TLS: the connection has sealed as much as its keys are good for (TLS 1.2): connect again")]
    KeysExhausted,
    /// Anything else, in the words of rustls.
    #[error("TLS: {0}")]
    Other(rustls::Error),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => TlsError::Certificate(error),
            rustls::Error::AlertReceived(alert) => TlsError::Refused(alert),
            error => TlsError::Other(error),
        }
    }
}

fn reason(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "nobody who is trusted has signed it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is not for {} but for {}", expected.to_str(), names(presented))
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        // What `openssl req -x509` makes unless it is told otherwise.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is that of an authority (CA:TRUE), which can only sign others".to_owned()
        }
        error => error.to_string(),
    }
}

/// The most names of a certificate that are shown, and the most bytes of each: it may have thousands.
const SHOWN_NAMES: usize = 10;
const SHOWN_NAME: usize = 253;

/// The names in a certificate, which its owner chose freely, made fit for a terminal or a log.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let shown: Vec<String> = presented.iter().take(SHOWN_NAMES).map(|name| name_of(name)).collect();
    match presented.len() - shown.len() {
        0 => shown.join(", "),
        others => format!("{} and {others} others", shown.join(", ")),
    }
}

/// A name without the kind that rustls puts around it.
fn name_of(presented: &str) -> String {
    let within = |start, end| presented.strip_prefix(start).and_then(|name| name.strip_suffix(end));
    let name = within("DnsName(\"", "\")")
        .or_else(|| within("UniformResourceIdentifier(\"", "\")"))
        .or_else(|| within("IpAddress(", ")"))
        .unwrap_or(match presented {
            "DirectoryName" => "a directory name",
            unsupported if unsupported.starts_with("Unsupported(") => "a name of another kind",
            other => other,
        });
    let shown: String = name.chars().take(SHOWN_NAME).flat_map(char::escape_default).collect();
    let dots = if name.chars().nth(SHOWN_NAME).is_some() { ".." } else { "" };
    shown + dots
}

fn alert(alert: &AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "it does not trust who signed this end's certificate".to_owned(),
        AlertDescription::CertificateRequired => "it wants a certificate of this end".to_owned(),
        AlertDescription::BadCertificate => "it does not accept this end's certificate".to_owned(),
        AlertDescription::CertificateExpired => "this end's certificate has expired".to_owned(),
        AlertDescription::NoApplicationProtocol => {
            "no application protocol (ALPN) is common to both ends".to_owned()
        }
        AlertDescription::ProtocolVersion => "no version of TLS is common to both ends".to_owned(),
        AlertDescription::HandshakeFailure => "nothing fits both ends (handshake_failure)".to_owned(),
        alert => format!("{alert:?}"),
    }
}

/// Why a [`Tls`] can't be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// `ServerConfig::max_early_data_size` is not 0, or `ClientConfig::enable_early_data` is set.
    #[error("early data can be replayed and is not supported: leave it off in the configuration of rustls")]
    EarlyData,
    /// rustls does not take the configuration.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// One TLS connection, as a [`Layer`].
pub struct Tls {
    connection: Connection,
    server_name: Name,
    /// The peer said that nothing more follows.
    peer_closed: bool,
    /// This end said so.
    closed: bool,
    is_open: bool,
}

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Where the name is known from that a client asks for.
enum Name {
    Asked(ServerName<'static>),
    Noted(Arc<NotesName>),
    Known(Option<String>),
}

impl Tls {
    /// The client's end of a connection with the server `name`, whose certificate must be for that name.
    ///
    /// # Errors
    /// The configuration allows early data, or rustls does not take it.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsConfigError> {
        if config.enable_early_data {
            return Err(TlsConfigError::EarlyData);
        }
        let connection = UnbufferedClientConnection::new(config, name.clone())?;
        Ok(Tls::new(Connection::Client(Box::new(connection)), Name::Asked(name)))
    }

    /// The server's end of a connection.
    ///
    /// # Errors
    /// The configuration allows early data, or rustls does not take it.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, TlsConfigError> {
        if config.max_early_data_size > 0 {
            return Err(TlsConfigError::EarlyData);
        }
        // This interface of rustls tells of the name to nobody but who chooses the certificate.
        let notes = Arc::new(NotesName { resolver: config.cert_resolver.clone(), name: OnceLock::new() });
        let mut config = ServerConfig::clone(config);
        config.cert_resolver = notes.clone();
        let connection = UnbufferedServerConnection::new(Arc::new(config))?;
        Ok(Tls::new(Connection::Server(Box::new(connection)), Name::Noted(notes)))
    }

    fn new(connection: Connection, server_name: Name) -> Self {
        Tls { connection, server_name, peer_closed: false, closed: false, is_open: false }
    }

    fn say(&mut self, words: &Words<'_>, wire: &mut WireBuffers) -> Result<(), TlsError> {
        match &mut self.connection {
            Connection::Client(connection) => say(&mut **connection, words, wire),
            Connection::Server(connection) => say(&mut **connection, words, wire),
        }
    }

    fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("client", &matches!(self.connection, Connection::Client(_)))
            .field("is_open", &self.is_open)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

impl Layer for Tls {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        if self.closed && plain.is_unwanted() {
            wire.received.clear(); // only the transport's end matters now
        } else if !self.peer_closed {
            let sealed = wire.sealed.len();
            // In builds with debug assertions, rustls (0.23) panics over a record that it can't open after close_notify.
            let taken = match &mut self.connection {
                Connection::Client(connection) => take(&mut **connection, wire, plain),
                Connection::Server(connection) => take(&mut **connection, wire, plain),
            };
            if self.closed {
                // Nothing follows close_notify (RFC 8446 section 6.1), not even the answer to a change of keys.
                wire.sealed.truncate(sealed);
            }
            self.is_open = !self.state().is_handshaking();
            self.peer_closed = match taken {
                Err(TlsError::Other(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
                    if !self.is_open =>
                {
                    return Err(failed(TlsError::NotTls));
                }
                taken => taken.map_err(failed)?,
            };
        }
        Ok(self.peer_closed)
    }

    fn is_handshaking(&self) -> bool {
        !self.is_open
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        self.say(&Words::Plain(plain), wire).map_err(failed)
    }

    fn close(&mut self, wire: &mut WireBuffers) {
        self.closed = true;
        // If even that can't be said any more, the peer will find the stream cut off.
        let _ = self.say(&Words::Close, wire);
    }

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        match (self.peer_closed, self.is_open) {
            (true, _) => Ok(()),
            (false, true) => Err(failed(TlsError::Truncated)),
            (false, false) => Err(failed(TlsError::EndedInHandshake)),
        }
    }

    fn describe(&mut self, opened: &mut Opened) {
        let server_name = match mem::replace(&mut self.server_name, Name::Known(None)) {
            Name::Asked(name) => Some(name.to_str().into_owned()),
            Name::Noted(notes) => notes.name.get().cloned(),
            Name::Known(name) => name,
        };
        let state = self.state();
        opened.tls = Some(Box::new(TlsFacts {
            version: state.protocol_version(),
            cipher_suite: state.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            server_name: server_name.clone(),
            peer_certificates: state.peer_certificates().unwrap_or_default().to_vec(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }));
        self.server_name = Name::Known(server_name);
    }
}

/// What is the same for both ends of a connection, which rustls has two types for.
trait Process: Deref<Target = UnbufferedConnectionCommon<<Self as Process>::Data>> {
    type Data;

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }
}

/// Takes what is whole in `wire`; says whether the peer ended the connection.
fn take<C: Process>(
    connection: &mut C,
    wire: &mut WireBuffers,
    plain: &mut Plain<'_>,
) -> Result<bool, TlsError> {
    let WireBuffers { received, sealed, .. } = wire;
    loop {
        let UnbufferedStatus { mut discard, state, .. } = connection.process(received);
        let (done, closed) = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.put_slice(record.payload);
                }
                (false, false)
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                put(sealed, 0, |room| data.encode(room).map_err(Refusal::from))?;
                (false, false)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done(); // it is on its way, in order
                (false, false)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => (true, true),
            Ok(_) => (true, false),
            Err(error) => {
                received.advance(discard.min(received.len()));
                say_why(connection, wire);
                return Err(error.into());
            }
        };
        received.advance(discard.min(received.len()));
        if done {
            return Ok(closed);
        }
    }
}

/// The connection has failed: writes the alert that tells the peer. Without one, rustls must not be called again: it would
/// look at what it has failed on once more.
fn say_why<C: Process>(connection: &mut C, wire: &mut WireBuffers) {
    while connection.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process(&mut wire.received).state
        else {
            return;
        };
        if put(&mut wire.sealed, 0, |room| data.encode(room).map_err(Refusal::from)).is_err() {
            return;
        }
    }
}

/// What this end has to say.
enum Words<'a> {
    Plain(&'a [u8]),
    Close,
}

/// Says `words`. What was received is shown again, since rustls remembers where in it a handshake message begins.
fn say<C: Process>(connection: &mut C, words: &Words<'_>, wire: &mut WireBuffers) -> Result<(), TlsError> {
    let said = try_to_say(connection, words, wire);
    if said.is_err() {
        say_why(connection, wire); // that it ends here, where rustls wants that said
    }
    said
}

fn try_to_say<C: Process>(
    connection: &mut C,
    words: &Words<'_>,
    wire: &mut WireBuffers,
) -> Result<(), TlsError> {
    let WireBuffers { received, sealed, .. } = wire;
    loop {
        match connection.process(received).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let plain = if let Words::Plain(plain) = words { plain.len() } else { 0 };
                return put(sealed, plain + overhead(plain), |room| {
                    match words {
                        Words::Plain(plain) => traffic.encrypt(plain, room),
                        Words::Close => traffic.queue_close_notify(room),
                    }
                    .map_err(Refusal::from)
                });
            }
            ConnectionState::EncodeTlsData(mut data) => {
                put(sealed, 0, |room| data.encode(room).map_err(Refusal::from))?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => {}
            _ => return Err(TlsError::Other(rustls::Error::HandshakeNotComplete)),
        }
    }
}

/// Why nothing was written.
enum Refusal {
    Room(usize),
    Never,
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Refusal::Room(size.required_size),
            EncodeError::AlreadyEncoded => Refusal::Never,
        }
    }
}

impl From<EncryptError> for Refusal {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Refusal::Room(size.required_size),
            EncryptError::EncryptExhausted => Refusal::Never,
        }
    }
}

/// Writes what `write` does to room of `len` bytes, or to as much as it turns out to want.
fn put(
    wire: &mut SealedBuf,
    mut len: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Refusal>,
) -> Result<(), TlsError> {
    loop {
        match write(wire.room(len)) {
            Ok(n) => {
                wire.filled(n);
                return Ok(());
            }
            Err(Refusal::Room(required)) if required > len => len = required,
            Err(_) => return Err(TlsError::KeysExhausted),
        }
    }
}

/// More than records of `len` bytes in all have beside them: 5 bytes of header, and 17 (TLS 1.3) or 24 (TLS 1.2) of
/// what they are sealed with. Most clients and servers send records of up to 16 KiB; a guess, since room that is too
/// small is found out.
fn overhead(len: usize) -> usize {
    const RECORD: usize = 16 * 1024;
    (len / RECORD + 1) * 32
}

fn failed(error: TlsError) -> LayerError {
    Arc::new(error)
}

/// Chooses certificates as `resolver` does, and notes the name that the client asked for.
#[derive(Debug)]
struct NotesName {
    resolver: Arc<dyn ResolvesServerCert>,
    name: OnceLock<String>,
}

impl ResolvesServerCert for NotesName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            let _ = self.name.set(name.to_owned());
        }
        self.resolver.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}
