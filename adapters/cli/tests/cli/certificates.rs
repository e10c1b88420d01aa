//! Certificates made for a test, in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Number of authorities made so far.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Files in a folder that is removed with this value: an authority (`ca.pem`), and certificates that it
/// signed for a server at `localhost` (`cert.pem`, `key.pem`) and for a client (`client.pem`,
/// `client-key.pem`).
pub struct Certificates {
    folder: PathBuf,
    pub ca: String,
    pub cert: String,
    pub key: String,
    pub client: String,
    pub client_key: String,
}

impl Certificates {
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let certificates = Certificates {
            ca: path("ca.pem"),
            cert: path("cert.pem"),
            key: path("key.pem"),
            client: path("client.pem"),
            client_key: path("client-key.pem"),
            folder,
        };
        certificates.make();
        certificates
    }

    /// Replaces all of them with new ones.
    pub fn make(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // An authority of the same name would be taken for the earlier one with another key.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        write(&self.ca, &authority.pem());
        for (names, certificate_file, key_file) in [
            (&["localhost", "127.0.0.1"][..], &self.cert, &self.key),
            (&["a client"], &self.client, &self.client_key),
        ] {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
            write(certificate_file, &certificate.pem());
            write(key_file, &key.serialize_pem());
        }
    }

    /// Command-line options of a server.
    pub fn server(&self) -> [&str; 4] {
        ["--cert", &self.cert, "--key", &self.key]
    }

    /// Command-line options of a client that trusts the authority.
    pub fn trusted(&self) -> [&str; 2] {
        ["--ca", &self.ca]
    }

    /// Command-line options of a client that trusts the authority and has a certificate.
    pub fn client(&self) -> [&str; 6] {
        ["--ca", &self.ca, "--cert", &self.client, "--key", &self.client_key]
    }
}

pub fn write(path: &str, text: &str) {
    fs::write(path, text).unwrap();
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
