//! [`Identity`]: a certificate with its key.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use getty_core::layer::tls::TlsConfigError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

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
    /// It is no PEM.
    #[error("not PEM: {0}")]
    Pem(String),
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

/// A certificate, those that lead to its issuer, and the private key.
pub struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM: one's own certificate first, then those between it and the authority. Of keys, PKCS #8, PKCS #1 (RSA) and
    /// SEC 1 (EC) are known, not encrypted.
    ///
    /// # Errors
    /// Something is not there, or encrypted, or no PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsSetupError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsSetupError::Pem(error.to_string()))?;
        if chain.is_empty() {
            return Err(TlsSetupError::NoCertificate);
        }
        Ok(Identity { chain, key: private_key(key)? })
    }

    /// From files in PEM; see [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    /// A file can't be read, or as for [`from_pem`](Self::from_pem).
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsSetupError> {
        Identity::from_pem(&read(chain.as_ref())?, &read(key.as_ref())?)
    }

    /// Checks that the key belongs to the certificate.
    pub(super) fn certified(self) -> Result<Arc<CertifiedKey>, TlsSetupError> {
        let certified = CertifiedKey::from_der(self.chain, self.key, &super::provider());
        certified.map(Arc::new).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsSetupError::OtherKey,
            error => TlsSetupError::Rustls(error),
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    fs::read(path).map_err(|source| TlsSetupError::Read { path: path.to_owned(), source })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsSetupError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => TlsSetupError::NoKey,
        error => TlsSetupError::Pem(error.to_string()),
    })
}
