//! TLS options.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use getty_driver::tls::{ClientCertificates, ClientTls, Identity, ServerTls, TlsSetupError};

use crate::url::Url;

/// Files with this end's certificate and key.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub struct IdentityOptions {
    /// This end's certificate chain in PEM, its own certificate first. Required to serve tls and wss URLs; a
    /// client needs it only if the server asks for it
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The certificate's private key, in PEM, unencrypted
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl IdentityOptions {
    pub fn is_given(&self) -> bool {
        self.cert.is_some()
    }

    /// Makes a server's TLS that accepts all clients, if the files are given.
    pub fn server(&self) -> anyhow::Result<Option<ServerTls>> {
        let server = |identity| ServerTls::new(identity).with_context(|| self.name());
        self.read()?.map(server).transpose()
    }

    /// Reads the files, if given.
    fn read(&self) -> anyhow::Result<Option<Identity>> {
        self.pem()?.map(|pem| pem.identity(self)).transpose()
    }

    /// Reads the contents of the files, if given.
    fn pem(&self) -> anyhow::Result<Option<Pem>> {
        let Some((cert, key)) = self.cert.as_ref().zip(self.key.as_ref()) else { return Ok(None) };
        let read = |path: &PathBuf| {
            let named = |source| TlsSetupError::Read { path: path.clone(), source };
            fs::read(path).map_err(named).with_context(|| self.name())
        };
        Ok(Some(Pem { chain: read(cert)?, key: read(key)? }))
    }

    /// The options as given.
    fn name(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
        format!("--cert {} --key {}", path(&self.cert), path(&self.key))
    }
}

/// The contents of the files. They are read only once, since a pipe such as `<(..)` yields them only once.
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    fn identity(&self, options: &IdentityOptions) -> anyhow::Result<Identity> {
        Identity::from_pem(&self.chain, &self.key).with_context(|| options.name())
    }
}

/// TLS options of a server.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub struct ServerTlsOptions {
    #[command(flatten)]
    identity: IdentityOptions,

    /// Accepts only clients with a certificate signed by an authority in this file (PEM)
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
}

impl ServerTlsOptions {
    /// Checks that TLS options are given where needed, and only there.
    pub fn check(&self, urls: &[Url]) -> Result<(), String> {
        let secure = urls.iter().find(|url| url.transport.is_secure());
        match secure {
            Some(url) if !self.identity.is_given() => {
                Err(format!("{url} needs a certificate: give --cert FILE and --key FILE"))
            }
            None if self.identity.is_given() => Err(unused("--cert")),
            None if self.client_ca.is_some() => Err(unused("--client-ca")),
            _ => Ok(()),
        }
    }

    /// Makes a server's TLS from the files, if given.
    pub fn server(&self) -> anyhow::Result<Option<ServerTls>> {
        let Some(pem) = self.identity.pem()? else { return Ok(None) };
        let identity = || pem.identity(&self.identity);
        let mut server = ServerTls::new(identity()?).with_context(|| self.identity.name())?;
        if let Some(path) = &self.client_ca {
            let identity = identity()?;
            let strict = ClientCertificates::required_by_file(path)
                .and_then(|clients| ServerTls::builder(identity).client_certificates(clients).build());
            server = strict.with_context(|| format!("--client-ca {}", path.display()))?;
        }
        Ok(Some(server))
    }

    /// Reads the certificate and its key again, for new connections.
    pub fn renew(&self, server: &ServerTls) -> anyhow::Result<()> {
        match self.identity.read()? {
            Some(identity) => server.replace_identity(identity).with_context(|| self.identity.name()),
            None => Ok(()),
        }
    }
}

/// TLS options of a client.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub struct ClientTlsOptions {
    #[command(flatten)]
    pub identity: IdentityOptions,

    /// Trusts only servers with a certificate signed by an authority in this file (PEM), instead of the
    /// system's authorities
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// DANGEROUS: trusts any server. Anyone on the network path can then read and change everything
    /// unnoticed. Only for tests on your own machine
    #[arg(long)]
    insecure: bool,

    /// Name or address that the server's certificate must match, also sent as SNI [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

impl ClientTlsOptions {
    /// Checks that the URL uses these options.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let given = self.trust_given().or(self.identity.is_given().then_some("--cert"));
        given.filter(|_| !url.transport.is_secure()).map_or(Ok(()), |name| Err(unused(name)))
    }

    /// The first given option that concerns the server's identity.
    pub fn trust_given(&self) -> Option<&'static str> {
        let ClientTlsOptions { identity: _, ca, insecure, server_name } = self;
        let given =
            [("--ca", ca.is_some()), ("--insecure", *insecure), ("--server-name", server_name.is_some())];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// Makes a client's TLS for `url`, if the URL uses TLS.
    pub fn client(&self, url: &Url) -> anyhow::Result<Option<ClientTls>> {
        if !url.transport.is_secure() {
            return Ok(None);
        }
        let mut builder = ClientTls::builder();
        if self.insecure {
            builder = builder.dangerously_trust_anybody();
        }
        if let Some(path) = &self.ca {
            builder = builder.roots_file(path).context("--ca")?;
        }
        if let Some(identity) = self.identity.read()? {
            builder = builder.identity(identity);
        }
        builder = builder.server_name(self.server_name.as_deref().unwrap_or(url.certified_host()));
        builder.build().map(Some).map_err(|error| match (&error, &self.ca) {
            (TlsSetupError::OtherKey | TlsSetupError::UnsupportedKey(_) | TlsSetupError::Rustls(_), _)
                if self.identity.is_given() =>
            {
                anyhow::Error::new(error).context(self.identity.name())
            }
            (TlsSetupError::ServerName(_), _) => anyhow::anyhow!("{error} (see --server-name)"),
            (_, Some(path)) => anyhow::Error::new(error).context(format!("--ca {}", path.display())),
            (_, None) => anyhow::anyhow!("{error} (see --ca)"),
        })
    }
}

/// Makes a client's TLS for a server in this process. Verifies nothing.
pub fn to_ourselves() -> anyhow::Result<ClientTls> {
    Ok(ClientTls::builder().dangerously_trust_anybody().build()?)
}

fn unused(option: &str) -> String {
    format!("{option} needs a tls or wss URL")
}
