//! Who calls: the name in a client's certificate or a bearer token becomes a [`Principal`], and one layer
//! looks after all calls, streams included.
//!
//! ```sh
//! cargo run -p getty-tokio --features rpc,tls --example who_calls
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use getty_tokio::Refuse;
use getty_tokio::rpc::{
    self, Call, Caller, Code, Dispatch, Executed, Inbound, Layer, Next, Opening, Raw, Response, Services,
    Status,
};
use webpki::EndEntityCert;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(pub Arc<str>);

/// Makes the first DNS name in the client's certificate the principal of the connection. For
/// [`Services::on_connect`], with TLS that has these certificates verified:
/// [`ClientCertificates`](getty_tokio::tls::ClientCertificates) names the authorities.
pub fn read_certificate(_peer: Caller, opening: &mut Opening<'_>) -> Result<(), Refuse> {
    let tls = opening.opened().tls.as_deref();
    let Some(certificate) = tls.and_then(|tls| tls.peer_certificates.first()) else { return Ok(()) };
    let certificate = EndEntityCert::try_from(certificate)?;
    if let Some(name) = certificate.valid_dns_names().next() {
        opening.set_attribute(Principal(name.into()));
    }
    Ok(())
}

/// Lets in who has a known token, or the certificate of [`read_certificate`].
pub struct Authenticate {
    /// Its hashes have a secret key, so that the time of a look-up does not give tokens away.
    tokens: HashMap<Vec<u8>, Principal>,
}

impl Authenticate {
    /// Knows these tokens.
    pub fn new(tokens: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let known = |(token, name): (&str, &str)| (token.into(), Principal(name.into()));
        Authenticate { tokens: tokens.into_iter().map(known).collect() }
    }

    /// A token counts more than the certificate, and a wrong one is refused: whoever sends one means it.
    fn principal(&self, inbound: &Inbound) -> Result<Principal, &'static str> {
        if let Some(credentials) = inbound.metadata().get("authorization") {
            let token =
                credentials.strip_prefix(b"Bearer ").ok_or("\"authorization\" has no bearer token")?;
            return self.tokens.get(token).cloned().ok_or("the token is not known");
        }
        let principal = inbound.attribute().ok_or("neither a token nor a client certificate was sent")?;
        Ok(Principal::clone(&principal))
    }
}

impl Layer for Authenticate {
    async fn dispatch<D: Dispatch>(&self, mut inbound: Inbound, next: Next<'_, D>) -> Response {
        match self.principal(&inbound) {
            Ok(principal) => inbound.set_extension(principal),
            Err(text) => return Err(Status::new(Code::Unauthenticated, text).with_executed(Executed::No)),
        }
        next.run(inbound).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Status> {
    let services = Services::new()
        .method("room.Room/Greet", Raw, |call: Call, (): ()| async move {
            let Some(Principal(name)) = call.extension() else {
                return Err(Status::new(Code::Internal, "the layer is missing"));
            };
            Ok(format!("hello {name}"))
        })
        .on_connect(read_certificate)
        .layer(Authenticate::new([("b3f1-9c47", "Ann")]));
    // In memory; over sockets it is `server.tls(..).tcp(address, rpc::frames, move || services.listener())`.
    let (caller, driving) = rpc::in_memory(services);
    tokio::spawn(driving);
    for credentials in ["Bearer guessed", "Bearer b3f1-9c47"] {
        let call = caller.call::<_, _, String>("room.Room/Greet", Raw, &());
        match call.metadata("authorization", credentials).await {
            Ok(greeting) => println!("{greeting}"),
            Err(status) => println!("{status}"),
        }
    }
    Ok(())
}
