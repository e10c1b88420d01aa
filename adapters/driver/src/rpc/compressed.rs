//! [`Compressed`]: a layer that compresses answers.

use getty_core::rpc::{Coding, Reply};

use crate::rpc::dispatch::{Dispatch, Inbound, Response};
use crate::rpc::layer::{Layer, Next};

/// A layer that lets answers be compressed with DEFLATE, and the items of streams that handlers send. By
/// default nothing is.
///
/// ```
/// use getty_driver::rpc::{Compressed, Config, Raw, Services, Status};
///
/// # fn f() -> Result<(), getty_driver::core::ConfigError> {
/// let services = Services::new()
///     .method("report.Report/Build", Raw, |_call, (): ()| async { Ok::<_, Status>("line\n".repeat(9_000)) })
///     .method("auth.Auth/Token", Raw, |_call, name: String| async { Ok::<_, Status>(name) })
///     .config(Config::builder().deflate(true).build()?) // requests may be compressed
///     .layer(Compressed::new().of("report.Report/Build")); // the answers of this method are
/// # Ok(()) }
/// ```
///
/// A body is compressed if the caller takes that ([`ConfigBuilder::deflate`](super::ConfigBuilder::deflate)
/// on its side), if it has at least 1 KiB, and if it gets smaller. That is done in the task of the session
/// once the body is sent, a piece in each turn, so that other sessions go on; one body at a time for each
/// connection.
///
/// Do not compress an answer that has a secret beside something that others choose: to those who see the
/// traffic, the length of the compressed body tells something about the secret (CRIME, BREACH).
#[derive(Debug, Default)]
pub struct Compressed {
    method: Option<Box<str>>,
}

impl Compressed {
    /// Compresses what all methods send.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses only what `method` (`pkg.Service/Method`) sends. Add one layer for each such method.
    #[must_use]
    pub fn of(mut self, method: &str) -> Self {
        self.method = Some(method.into());
        self
    }
}

impl Layer for Compressed {
    async fn dispatch<D: Dispatch>(&self, mut inbound: Inbound, next: Next<'_, D>) -> Response {
        if self.method.as_ref().is_some_and(|method| !inbound.is_for(method)) {
            return next.run(inbound).await;
        }
        inbound.items = Coding::Compressible;
        let Reply { metadata, body } = next.run(inbound).await?;
        Ok(Reply { metadata, body: body.compressible() })
    }
}
