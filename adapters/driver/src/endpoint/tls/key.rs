//! The kind of a key that cannot be used, read from its DER.

use rustls::pki_types::PrivateKeyDer;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const PARAMETERS: u8 = 0xa0;

const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";

/// Whether these bytes are exactly one DER sequence.
pub(super) fn is_der(bytes: &[u8]) -> bool {
    matches!(element(bytes), Some((SEQUENCE, _, [])))
}

/// Describes the kind of a key.
pub(super) fn kind(key: &PrivateKeyDer<'_>) -> String {
    let kind = match key {
        PrivateKeyDer::Pkcs8(key) => kind_of_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => kind_of_rsa(key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => kind_of_ec(key.secret_sec1_der()),
        _ => None,
    };
    kind.unwrap_or_else(|| "of an unknown form".to_owned())
}

/// Whether keys of this kind can be used, if they are not damaged.
pub(super) fn is_supported(kind: &str) -> bool {
    let bits = || kind.strip_prefix("RSA of ")?.strip_suffix(" bits")?.parse::<usize>().ok();
    matches!(kind, "EC on the curve P-256" | "EC on the curve P-384" | "Ed25519")
        || bits().is_some_and(|bits| (2048..=4096).contains(&bits))
}

/// `PrivateKeyInfo` of RFC 5958.
fn kind_of_pkcs8(der: &[u8]) -> Option<String> {
    let (_, rest) = expect(INTEGER, expect(SEQUENCE, der)?.0)?;
    let (algorithm, rest) = expect(SEQUENCE, rest)?;
    let (name, parameters) = expect(OBJECT, algorithm)?;
    Some(match &*dotted(name) {
        RSA => kind_of_rsa(expect(OCTETS, rest)?.0)?,
        EC => expect(OBJECT, parameters).map_or("EC".to_owned(), |(curve, _)| on_curve(curve)),
        "1.2.840.113549.1.1.10" => "RSA for PSS only".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        "1.3.101.110" => "X25519".to_owned(),
        "1.3.101.111" => "X448".to_owned(),
        "1.3.101.112" => "Ed25519".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        other => format!("of the type {other}"),
    })
}

/// `RSAPrivateKey` of RFC 8017: its size is that of the modulus.
fn kind_of_rsa(der: &[u8]) -> Option<String> {
    let (_, rest) = expect(INTEGER, expect(SEQUENCE, der)?.0)?;
    let (modulus, _) = expect(INTEGER, rest)?;
    let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    let first = modulus.get(zeros)?;
    Some(format!("RSA of {} bits", (modulus.len() - zeros) * 8 - first.leading_zeros() as usize))
}

/// `ECPrivateKey` of RFC 5915.
fn kind_of_ec(der: &[u8]) -> Option<String> {
    let (_, rest) = expect(INTEGER, expect(SEQUENCE, der)?.0)?;
    let (_, rest) = expect(OCTETS, rest)?;
    let curve = expect(PARAMETERS, rest).and_then(|(parameters, _)| expect(OBJECT, parameters));
    Some(curve.map_or("EC".to_owned(), |(curve, _)| on_curve(curve)))
}

fn on_curve(name: &[u8]) -> String {
    let name = dotted(name);
    let curve = match &*name {
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        other => other,
    };
    format!("EC on the curve {curve}")
}

/// An object identifier in dotted notation.
fn dotted(name: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in name {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let Some((first, rest)) = numbers.split_first() else { return String::new() };
    let top = (*first / 40).min(2); // the first number encodes two
    let all = [top, first - top * 40].into_iter().chain(rest.iter().copied());
    all.map(|number| number.to_string()).collect::<Vec<_>>().join(".")
}

/// The content of the first element of `der` and the rest after it, if the element has this tag.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The first element of `der`: its tag, its content, and the rest after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = der else { return None };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}
