//! [`Tls`]: TLS 1.2 and 1.3 as a layer, over [`rustls`].
//!
//! The layer adds no cryptography, verifier or clock of its own. These come from the [`rustls`] configuration
//! (`rustls::ClientConfig::builder_with_details` takes all three), and so do versions, cipher suites, ALPN,
//! session resumption, client certificates and the key log. getty's adapters provide configurations with safe
//! defaults.
//!
//! A connection has no buffer of its own: records are opened in the read buffer and sealed into the write
//! buffer of the memory that the session works in.
//!
//! Early data (0-RTT) is not used, since it can be replayed.

use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

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

/// Errors of a TLS connection.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer ended the stream without `close_notify`, so the stream may have been cut off.
    #[error("TLS: the stream was cut off: it ended without close_notify")]
    Truncated,
    /// The peer ended the stream before the handshake was done. It may not speak TLS, or it disconnected.
    #[error("TLS: the peer ended the stream during the handshake: does it speak TLS?")]
    EndedInHandshake,
    /// The peer's first bytes are not TLS.
    #[error("TLS: the peer speaks another protocol")]
    NotTls,
    /// The peer's certificate was not accepted.
    #[error("TLS: the peer's certificate is not accepted: {}", reason(.0))]
    Certificate(CertificateError),
    /// The peer refused the connection with an alert.
    #[error("TLS: the peer refused: {}", alert(.0))]
    Refused(AlertDescription),
    /// The keys have sealed as much as is safe, and TLS 1.2 can't change them. Connect again.
    #[error("TLS: the keys have sealed as much as is safe (TLS 1.2): connect again")]
    KeysExhausted,
    /// Any other error of rustls.
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
        CertificateError::UnknownIssuer => "it is not signed by a trusted authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is not for {} but for {}", expected.to_str(), names(presented))
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        // `openssl req -x509` makes such certificates by default.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is a CA certificate (CA:TRUE), which can only sign others".to_owned()
        }
        error => error.to_string(),
    }
}

/// The number of a certificate's names that are shown, and of the bytes of each. A certificate may have
/// thousands.
const SHOWN_NAMES: usize = 10;
const SHOWN_NAME: usize = 253;

/// The names in a certificate, which its owner chose freely, escaped for a terminal or a log.
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

/// The name without the type that rustls puts around it.
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
        AlertDescription::UnknownCA => "it does not trust the issuer of this end's certificate".to_owned(),
        AlertDescription::CertificateRequired => "it requires a certificate from this end".to_owned(),
        AlertDescription::BadCertificate => "it does not accept this end's certificate".to_owned(),
        AlertDescription::CertificateExpired => "this end's certificate has expired".to_owned(),
        AlertDescription::NoApplicationProtocol => {
            "the two ends have no application protocol (ALPN) in common".to_owned()
        }
        AlertDescription::ProtocolVersion => "the two ends have no version of TLS in common".to_owned(),
        AlertDescription::HandshakeFailure => {
            "the two ends have no parameters in common (handshake_failure)".to_owned()
        }
        alert => format!("{alert:?}"),
    }
}

/// Errors of making a [`Tls`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// `ServerConfig::max_early_data_size` is not 0, or `ClientConfig::enable_early_data` is set.
    #[error("early data is not supported, since it can be replayed: disable it in the rustls configuration")]
    EarlyData,
    /// rustls does not accept the configuration.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// One TLS connection, as a [`Layer`].
pub struct Tls {
    connection: Connection,
    server_name: Name,
    /// The peer has sent close_notify.
    peer_closed: bool,
    /// This end has sent close_notify.
    closed: bool,
    is_open: bool,
}

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// The source of the server name that the client asked for.
enum Name {
    Asked(ServerName<'static>),
    Recorded(Arc<RecordsName>),
    Known(Option<String>),
}

impl Tls {
    /// Makes the client's end of a connection to the server `name`, whose certificate must be for that name.
    ///
    /// # Errors
    /// The configuration enables early data, or rustls does not accept it.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsConfigError> {
        if config.enable_early_data {
            return Err(TlsConfigError::EarlyData);
        }
        let connection = UnbufferedClientConnection::new(config, name.clone())?;
        Ok(Tls::new(Connection::Client(Box::new(connection)), Name::Asked(name)))
    }

    /// Makes the server's end of a connection.
    ///
    /// # Errors
    /// The configuration enables early data, or rustls does not accept it.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, TlsConfigError> {
        if config.max_early_data_size > 0 {
            return Err(TlsConfigError::EarlyData);
        }
        // This interface of rustls reports the name only to the resolver of certificates.
        let recorder =
            Arc::new(RecordsName { resolver: config.cert_resolver.clone(), name: OnceLock::new() });
        let mut config = ServerConfig::clone(config);
        config.cert_resolver = recorder.clone();
        let connection = UnbufferedServerConnection::new(Arc::new(config))?;
        Ok(Tls::new(Connection::Server(Box::new(connection)), Name::Recorded(recorder)))
    }

    fn new(connection: Connection, server_name: Name) -> Self {
        Tls { connection, server_name, peer_closed: false, closed: false, is_open: false }
    }

    fn write_output(&mut self, output: &Output<'_>, wire: &mut WireBuffers) -> Result<(), TlsError> {
        match &mut self.connection {
            Connection::Client(connection) => write_output(&mut **connection, output, wire),
            Connection::Server(connection) => write_output(&mut **connection, output, wire),
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
            wire.received.clear(); // only the end of the transport matters now
        } else if !self.peer_closed {
            let sealed = wire.sealed.len();
            // With debug assertions, rustls (0.23) panics at a record that it can't open after close_notify.
            let processed = match &mut self.connection {
                Connection::Client(connection) => process(&mut **connection, wire, plain),
                Connection::Server(connection) => process(&mut **connection, wire, plain),
            };
            if self.closed {
                // Nothing follows close_notify (RFC 8446 section 6.1), not even the answer to a key update.
                wire.sealed.truncate(sealed);
            }
            self.is_open = !self.state().is_handshaking();
            self.peer_closed = match processed {
                Err(TlsError::Other(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
                    if !self.is_open =>
                {
                    return Err(failed(TlsError::NotTls));
                }
                processed => processed.map_err(failed)?,
            };
        }
        Ok(self.peer_closed)
    }

    fn is_handshaking(&self) -> bool {
        !self.is_open
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        self.write_output(&Output::Plain(plain), wire).map_err(failed)
    }

    fn close(&mut self, wire: &mut WireBuffers) {
        self.closed = true;
        // If it can't be sent any longer, the stream looks cut off to the peer.
        let _ = self.write_output(&Output::Close, wire);
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
            Name::Recorded(recorder) => recorder.name.get().cloned(),
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

/// The interface that the two types of rustls for the ends of a connection have in common.
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

/// Processes the whole records in `wire`. Returns whether the peer closed the connection.
fn process<C: Process>(
    connection: &mut C,
    wire: &mut WireBuffers,
    plain: &mut Plain<'_>,
) -> Result<bool, TlsError> {
    let WireBuffers { received, sealed, .. } = wire;
    let all = received.len();
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(&mut received[used..]);
        used = all.min(used + discard);
        let (done, closed) = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    used = all.min(used + record.discard);
                    plain.put_slice(record.payload);
                }
                // rustls need not be asked again to learn that there is nothing more: a record that closes
                // the connection would still be here.
                (used == all && !connection.wants_write(), false)
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                put(sealed, 0, |room| data.encode(room).map_err(NotWritten::from))?;
                (false, false)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done(); // it is queued in order
                (false, false)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => (true, true),
            Ok(_) => (true, false),
            Err(error) => {
                wire.used(used);
                write_alert(connection, wire);
                return Err(error.into());
            }
        };
        if done {
            wire.used(used);
            return Ok(closed);
        }
    }
}

/// Writes the failed connection's alert. If there is none, rustls must not be called again: it would process
/// what it failed on once more.
fn write_alert<C: Process>(connection: &mut C, wire: &mut WireBuffers) {
    while connection.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process(&mut wire.received).state
        else {
            return;
        };
        if put(&mut wire.sealed, 0, |room| data.encode(room).map_err(NotWritten::from)).is_err() {
            return;
        }
    }
}

/// Output of this end.
enum Output<'a> {
    Plain(&'a [u8]),
    Close,
}

/// Writes `output`. Passes the received bytes again, since rustls remembers where in them a handshake message
/// begins.
fn write_output<C: Process>(
    connection: &mut C,
    output: &Output<'_>,
    wire: &mut WireBuffers,
) -> Result<(), TlsError> {
    let written = try_write_output(connection, output, wire);
    if written.is_err() {
        write_alert(connection, wire); // if rustls has one
    }
    written
}

fn try_write_output<C: Process>(
    connection: &mut C,
    output: &Output<'_>,
    wire: &mut WireBuffers,
) -> Result<(), TlsError> {
    let WireBuffers { received, sealed, .. } = wire;
    loop {
        match connection.process(received).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let plain = if let Output::Plain(plain) = output { plain.len() } else { 0 };
                return put(sealed, plain + overhead(plain), |room| {
                    match output {
                        Output::Plain(plain) => traffic.encrypt(plain, room),
                        Output::Close => traffic.queue_close_notify(room),
                    }
                    .map_err(NotWritten::from)
                });
            }
            ConnectionState::EncodeTlsData(mut data) => {
                put(sealed, 0, |room| data.encode(room).map_err(NotWritten::from))?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => {}
            _ => return Err(TlsError::Other(rustls::Error::HandshakeNotComplete)),
        }
    }
}

/// The reason why nothing was written.
enum NotWritten {
    Room(usize),
    Never,
}

impl From<EncodeError> for NotWritten {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => NotWritten::Room(size.required_size),
            EncodeError::AlreadyEncoded => NotWritten::Never,
        }
    }
}

impl From<EncryptError> for NotWritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => NotWritten::Room(size.required_size),
            EncryptError::EncryptExhausted => NotWritten::Never,
        }
    }
}

/// Calls `write` with room for `len` bytes, or for as many as it turns out to require.
fn put(
    wire: &mut SealedBuf,
    mut len: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, NotWritten>,
) -> Result<(), TlsError> {
    loop {
        match write(wire.room(len)) {
            Ok(n) => {
                wire.filled(n);
                return Ok(());
            }
            Err(NotWritten::Room(required)) if required > len => len = required,
            Err(_) => return Err(TlsError::KeysExhausted),
        }
    }
}

/// An upper bound of the overhead of records with `len` bytes in total: 5 bytes of header, and 17 (TLS 1.3)
/// or 24 (TLS 1.2) bytes of sealing each. Most peers send records of up to 16 KiB. An estimate is enough,
/// since too little room is detected.
fn overhead(len: usize) -> usize {
    const RECORD: usize = 16 * 1024;
    (len / RECORD + 1) * 32
}

fn failed(error: TlsError) -> LayerError {
    Arc::new(error)
}

/// Resolves certificates with `resolver`, and records the name that the client asked for.
#[derive(Debug)]
struct RecordsName {
    resolver: Arc<dyn ResolvesServerCert>,
    name: OnceLock<String>,
}

impl ResolvesServerCert for RecordsName {
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
