//! Options on TLS.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use getty_driver::tls::{ClientCertificates, ClientTls, Identity, ServerTls, TlsSetupError};

use crate::url::Url;

/// Does the same with a builder as it is or, if there is TLS to be spoken, with one that speaks it: those are of two types.
macro_rules! over {
    ($tls:expr, $builder:ident, $work:expr) => {
        match $tls {
            None => $work,
            Some(tls) => {
                let $builder = $builder.tls(tls);
                $work
            }
        }
    };
}
pub(crate) use over;

/// Files that prove who this end is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub struct IdentityOptions {
    /// This end's certificate, then those that lead to its issuer, in PEM. A server of tls and wss URLs must have one, a
    /// client only where the server asks for it
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The certificate's private key, in PEM and not encrypted
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl IdentityOptions {
    pub fn is_given(&self) -> bool {
        self.cert.is_some()
    }

    /// The server's end of connections to whoever is there, if there are files.
    pub fn server(&self) -> anyhow::Result<Option<ServerTls>> {
        let server = |identity| ServerTls::new(identity).with_context(|| self.name());
        self.read()?.map(server).transpose()
    }

    /// Reads the files, if there are any.
    fn read(&self) -> anyhow::Result<Option<Identity>> {
        self.pem()?.map(|pem| pem.identity(self)).transpose()
    }

    /// The content of the files, if there are any.
    fn pem(&self) -> anyhow::Result<Option<Pem>> {
        let Some((cert, key)) = self.cert.as_ref().zip(self.key.as_ref()) else { return Ok(None) };
        let read = |path: &PathBuf| {
            let named = |source| TlsSetupError::Read { path: path.clone(), source };
            fs::read(path).map_err(named).with_context(|| self.name())
        };
        Ok(Some(Pem { chain: read(cert)?, key: read(key)? }))
    }

    /// The options as they were given.
    fn name(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
        format!("--cert {} --key {}", path(&self.cert), path(&self.key))
    }
}

/// The content of the files, which are read once: a pipe, such as `<(..)`, gives it only once.
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    fn identity(&self, options: &IdentityOptions) -> anyhow::Result<Identity> {
        Identity::from_pem(&self.chain, &self.key).with_context(|| options.name())
    }
}

/// Options of a server.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub struct ServerTlsOptions {
    #[command(flatten)]
    identity: IdentityOptions,

    /// Lets in only clients that show a certificate which an authority in this file (PEM) has signed
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
}

impl ServerTlsOptions {
    /// Checks that these options have something to act on, and that they are there where they have to be.
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

    /// What the files say, if there are any.
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

    /// Reads the certificate and its key again, for connections that come from now on.
    pub fn renew(&self, server: &ServerTls) -> anyhow::Result<()> {
        match self.identity.read()? {
            Some(identity) => server.replace_identity(identity).with_context(|| self.identity.name()),
            None => Ok(()),
        }
    }
}

/// Options of a client.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub struct ClientTlsOptions {
    #[command(flatten)]
    pub identity: IdentityOptions,

    /// Trusts servers whose certificate an authority in this file (PEM) has signed, instead of the system's authorities
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// DANGEROUS: trusts any server, whoever it is. Anybody between here and there can then read and change everything
    /// that is sent, and nobody will notice. For tries on one's own machine only
    #[arg(long)]
    insecure: bool,

    /// The name or address that the server's certificate must be for, and that is asked for (SNI) [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

impl ClientTlsOptions {
    /// Checks that these options have something to act on.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let given = self.trust_given().or(self.identity.is_given().then_some("--cert"));
        given.filter(|_| !url.transport.is_secure()).map_or(Ok(()), |name| Err(unused(name)))
    }

    /// The first option, of those that were given, on who the server has to be.
    pub fn trust_given(&self) -> Option<&'static str> {
        let ClientTlsOptions { identity: _, ca, insecure, server_name } = self;
        let given =
            [("--ca", ca.is_some()), ("--insecure", *insecure), ("--server-name", server_name.is_some())];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// The client's end of a connection to `url`, if that is one of TLS.
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

/// The client's end of connections to a server in this process, of which nothing has to be verified.
pub fn to_ourselves() -> anyhow::Result<ClientTls> {
    Ok(ClientTls::builder().dangerously_trust_anybody().build()?)
}

fn unused(option: &str) -> String {
    format!("{option} is for tls and wss URLs, and there is none")
}
