//! [`TlsSetupError`]: why TLS can't be set up so.

use std::io;
use std::path::PathBuf;

use getty_core::layer::tls::TlsConfigError;

/// Why TLS can't be set up so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No certificate is where one is expected.
    #[error("expected a certificate in PEM (-----BEGIN CERTIFICATE-----), found none")]
    NoCertificate,
    /// No key is where one is expected.
    #[error("expected a private key in PEM (-----BEGIN PRIVATE KEY-----), found none")]
    NoKey,
    /// The key is encrypted.
    #[error("the private key is encrypted: decrypt it first (openssl pkey -in KEY -out PLAIN)")]
    EncryptedKey,
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    OtherKey,
    /// The key is of a type that is not supported, or damaged.
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
        "expected PEM, found DER: convert it first (openssl x509 -inform der -in FILE; of a key, openssl pkey \
         -inform der -in FILE)"
    )]
    Der,
    /// A byte order mark hides the beginning of an entry, or the text is UTF-16.
    #[error("a byte order mark (BOM) stands before -----BEGIN: save the file as plain text without one")]
    ByteOrderMark,
    /// Something stands before the `-----BEGIN` of an entry, so that readers of PEM would skip it.
    #[error("line {line}: -----BEGIN has to be at the beginning of its line")]
    Indented {
        /// The line, from 1.
        line: usize,
    },
    /// A certificate is in a form that only OpenSSL reads.
    #[error(
        "certificate {number} (line {line}): {label} is a form of OpenSSL alone: convert it first (openssl x509 -in \
         FILE -out PLAIN)"
    )]
    CertificateForm {
        /// Which certificate of the file, from 1.
        number: usize,
        /// The line on which it begins, from 1.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A certificate can't be read.
    #[error("certificate {number} (line {line}): {}", without_peer(source))]
    Certificate {
        /// Which certificate of the file, from 1.
        number: usize,
        /// The line on which it begins, from 1.
        line: usize,
        /// Why.
        source: rustls::Error,
    },
    /// The system's trusted authorities can't be found.
    #[error("the system's trusted authorities are not to be had: {0}")]
    Platform(rustls::Error),
    /// The trusted authorities make no verifier.
    #[error("nobody can be verified so: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// No certificate can be for this.
    #[error("no certificate can be for {0:?}: expected a name or an address")]
    ServerName(String),
    /// The identity can't be replaced where the configuration was given as a whole.
    #[error("the configuration was given as a whole: it chooses the certificate itself")]
    NotReplaceable,
    /// rustls does not take it.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] TlsConfigError),
}

/// The error's text without the words by which rustls blames a peer's certificate.
fn without_peer(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => format!("not valid: {error}"),
        error => error.to_string(),
    }
}
