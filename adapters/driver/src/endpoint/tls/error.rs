//! [`TlsSetupError`]: errors in the setup of TLS.

use std::io;
use std::path::PathBuf;

use getty_core::layer::tls::TlsConfigError;

/// Error in the setup of TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// A file cannot be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A certificate is missing.
    #[error("expected a certificate in PEM (-----BEGIN CERTIFICATE-----), found none")]
    NoCertificate,
    /// A key is missing.
    #[error("expected a private key in PEM (-----BEGIN PRIVATE KEY-----), found none")]
    NoKey,
    /// The key is encrypted.
    #[error("the private key is encrypted: decrypt it first (openssl pkey -in KEY -out PLAIN)")]
    EncryptedKey,
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    OtherKey,
    /// The key is of an unsupported type, or damaged.
    #[error(
        "the private key can't be used: it is {0}; expected RSA of 2048 to 4096 bits, EC on the curve P-256 or P-384, \
         or Ed25519"
    )]
    UnsupportedKey(String),
    /// Not valid PEM.
    #[error("not PEM: {0}")]
    Pem(String),
    /// The file is DER, which is binary.
    #[error(
        "expected PEM, found DER: convert it first (openssl x509 -inform der -in FILE; for a key, openssl pkey \
         -inform der -in FILE)"
    )]
    Der,
    /// A byte order mark hides the beginning of an entry, or the text is UTF-16.
    #[error("a byte order mark (BOM) stands before -----BEGIN: save the file as plain text without one")]
    ByteOrderMark,
    /// Blanks before the `-----BEGIN` of an entry. Other readers of PEM would skip it.
    #[error("line {line}: -----BEGIN has to be at the beginning of its line")]
    Indented {
        /// The line, from 1.
        line: usize,
    },
    /// A certificate is in a form that only OpenSSL reads.
    #[error(
        "certificate {number} (line {line}): {label} is a form that only OpenSSL reads: convert it first (openssl \
         x509 -in FILE -out PLAIN)"
    )]
    CertificateForm {
        /// The number of the certificate in the file, from 1.
        number: usize,
        /// The line on which it begins, from 1.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A certificate cannot be read.
    #[error("certificate {number} (line {line}): {}", without_peer(source))]
    Certificate {
        /// The number of the certificate in the file, from 1.
        number: usize,
        /// The line on which it begins, from 1.
        line: usize,
        /// The cause.
        source: rustls::Error,
    },
    /// The system's trusted authorities cannot be found.
    #[error("can't find the system's trusted authorities: {0}")]
    Platform(rustls::Error),
    /// The trusted authorities cannot be used.
    #[error("the trusted authorities can't be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// No certificate can be valid for this name.
    #[error("no certificate can be valid for {0:?}: expected a name or an address")]
    ServerName(String),
    /// The identity cannot be replaced, because it belongs to a configuration given as a whole
    /// ([`ServerTls::from_config`](super::ServerTls::from_config)).
    #[error("the identity can't be replaced: it belongs to the configuration of ServerTls::from_config")]
    NotReplaceable,
    /// An error of rustls.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] TlsConfigError),
}

/// The error's text, without the words with which rustls blames a peer's certificate.
fn without_peer(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => format!("not valid: {error}"),
        error => error.to_string(),
    }
}
