//! Reads PEM, with errors that name a file's problem: its form, or the entry that is invalid.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsSetupError;
use super::key;

const BOM: &[u8] = "\u{feff}".as_bytes();
const UTF_16: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];
const BEGIN: &[u8] = b"-----BEGIN ";

/// An entry of a file: from its `BEGIN` to the next one.
struct Entry<'a> {
    /// The line of the `BEGIN`, from 1.
    line: usize,
    /// The text between `BEGIN` and the dashes.
    label: String,
    text: &'a [u8],
}

/// Splits a file into its entries. A line that is almost a `BEGIN`, which other readers of PEM skip silently,
/// is an error.
fn entries(pem: &[u8]) -> Result<Vec<Entry<'_>>, TlsSetupError> {
    if UTF_16.iter().any(|bom| pem.starts_with(bom)) {
        return Err(TlsSetupError::ByteOrderMark);
    }
    let mut starts = Vec::new();
    let mut at = 0;
    for (number, line) in pem.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let trimmed = line.trim_ascii_start();
        if let Some(rest) = line.strip_prefix(BEGIN) {
            let label = rest.split(|&byte| byte == b'-').next().unwrap_or_default();
            starts.push((at, number + 1, String::from_utf8_lossy(label).into_owned()));
        } else if trimmed.strip_prefix(BOM).is_some_and(|rest| rest.trim_ascii_start().starts_with(BEGIN)) {
            return Err(TlsSetupError::ByteOrderMark);
        } else if trimmed.starts_with(BEGIN) {
            return Err(TlsSetupError::Indented { line: number + 1 });
        }
        at += line.len();
    }
    if starts.is_empty() && key::is_der(pem) {
        return Err(TlsSetupError::Der);
    }
    let ends = starts.iter().skip(1).map(|(at, ..)| *at).chain([pem.len()]).collect::<Vec<_>>();
    let entry = |((start, line, label), end)| Entry { line, label, text: &pem[start..end] };
    Ok(starts.into_iter().zip(ends).map(entry).collect())
}

/// Passes each certificate in `pem` to `take`, which may reject it.
pub(super) fn certificates(
    pem: &[u8],
    mut take: impl FnMut(CertificateDer<'static>) -> Result<(), rustls::Error>,
) -> Result<(), TlsSetupError> {
    let entries = entries(pem)?.into_iter().filter(|entry| is_certificate(&entry.label));
    let mut number = 0;
    for Entry { line, label, text } in entries {
        number += 1;
        if label != "CERTIFICATE" {
            return Err(TlsSetupError::CertificateForm { number, line, label });
        }
        let certificate = CertificateDer::from_pem_slice(text).map_err(|error| {
            TlsSetupError::Pem(format!("certificate {number} (line {line}): {}", words(&error)))
        })?;
        take(certificate).map_err(|source| TlsSetupError::Certificate { number, line, source })?;
    }
    if number == 0 { Err(TlsSetupError::NoCertificate) } else { Ok(()) }
}

/// The certificates in `pem` as trusted authorities.
pub(super) fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    certificates(pem, |certificate| roots.add(certificate))?;
    Ok(Arc::new(roots))
}

/// Whether it is a certificate, in any form. A file may have other entries too, such as the key.
fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE")
}

/// The first private key in `pem`.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let entries = entries(pem)?;
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsSetupError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        Error::NoItemsFound => match entries.into_iter().find(|entry| entry.label.ends_with("PRIVATE KEY")) {
            Some(entry) => {
                TlsSetupError::UnsupportedKey(format!("of the form {}", entry.label.escape_default()))
            }
            None => TlsSetupError::NoKey,
        },
        error => TlsSetupError::Pem(words(&error)),
    })
}

/// Describes the error, with lists of bytes shown as text.
fn words(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("-----END {}----- is missing", end_marker.escape_ascii())
        }
        Error::IllegalSectionStart { line } => format!("{} is not a valid BEGIN line", line.escape_ascii()),
        error => error.to_string(),
    }
}
