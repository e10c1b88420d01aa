//! [`Identity`]: a certificate with its key.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::error::TlsSetupError;
use super::provider::provider;
use super::{key, pem};

/// A certificate, the intermediate certificates up to its authority, and the private key.
pub struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads PEM: the own certificate first, then the intermediate ones up to the authority. The key is in
    /// PKCS #8, PKCS #1 (RSA) or SEC 1 (EC), and is not encrypted.
    ///
    /// # Errors
    /// A part is missing, encrypted or not valid PEM, or a certificate cannot be read.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsSetupError> {
        let mut certificates = Vec::new();
        pem::certificates(chain, |certificate| {
            check_encoding(&certificate)?;
            certificates.push(certificate);
            Ok(())
        })?;
        Ok(Identity { chain: certificates, key: pem::private_key(key)? })
    }

    /// Reads files in PEM; see [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    /// A file cannot be read, or as for [`from_pem`](Self::from_pem).
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsSetupError> {
        Identity::from_pem(&read(chain.as_ref())?, &read(key.as_ref())?)
    }

    /// Checks that the key belongs to the certificate.
    pub(super) fn certified(self) -> Result<Arc<CertifiedKey>, TlsSetupError> {
        let mut kind = key::kind(&self.key);
        if key::is_supported(&kind) {
            kind += " in an unsupported form, or damaged";
        }
        let certified = CertifiedKey::from_der(self.chain, self.key, &provider());
        certified.map(Arc::new).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsSetupError::OtherKey,
            rustls::Error::General(_) => TlsSetupError::UnsupportedKey(kind),
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

/// Checks that these bytes are a certificate at all. Other problems show when it is used.
fn check_encoding(certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
    match ParsedCertificate::try_from(certificate) {
        Err(error @ rustls::Error::InvalidCertificate(CertificateError::BadEncoding)) => Err(error),
        _ => Ok(()),
    }
}
