//! The methods of a server, by its reflection.

use clap::ValueEnum;
use getty_driver::rpc::reflection::{Listing, ReflectClient};
use getty_driver::rpc::{Caller, Code, Executed, Status};

use super::failure::plain;
use super::shape::Shape;
use super::terms::Terms;

/// Lists the methods of the server.
///
/// # Errors
/// The server has no reflection, or can't be reached.
async fn list(caller: &Caller, terms: &Terms<'_>) -> Result<Listing, Status> {
    terms.apply(ReflectClient::new(caller.clone()).list()).await
}

/// Finds the shape of `method`. `None`: the server does not say.
///
/// # Errors
/// The server can't be reached, or not in time.
pub async fn shape(caller: &Caller, terms: &Terms<'_>, method: &str) -> Result<Option<Shape>, Status> {
    match list(caller, terms).await {
        Ok(listing) => Ok(find(&listing, method)),
        Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            // That is so for the call that was asked for.
            Err(status.with_executed(Executed::No))
        }
        Err(_) => Ok(None),
    }
}

fn find(listing: &Listing, name: &str) -> Option<Shape> {
    let (service, method) = name.split_once('/')?;
    let service = listing.services.iter().find(|listed| listed.name == service)?;
    let method = service.methods.iter().find(|listed| listed.name == method)?;
    Shape::from_str(&method.shape, false).ok()
}

/// Describes the methods of the server, each in a line.
pub async fn describe(caller: &Caller, terms: &Terms<'_>) -> Result<String, Status> {
    let listing = list(caller, terms).await.map_err(|status| match status.code() {
        Code::Unimplemented => {
            Status::new(Code::Unimplemented, format!("the server has no reflection: {}", status.message()))
                .with_executed(status.executed())
        }
        _ => status,
    })?;
    Ok(table(&listing))
}

fn table(listing: &Listing) -> String {
    let methods = listing.services.iter().flat_map(|service| {
        service.methods.iter().map(|method| {
            let name = plain(&format!("{}/{}", service.name, method.name));
            let idempotent = if method.idempotent { "  idempotent" } else { "" };
            (name, plain(&method.shape), plain(&method.codecs.join(",")), idempotent)
        })
    });
    let methods: Vec<_> = methods.collect();
    let width = |of: fn(&(String, String, String, &str)) -> usize| methods.iter().map(of).max().unwrap_or(0);
    let (names, shapes) = (width(|line| line.0.chars().count()), width(|line| line.1.chars().count()));
    let line = |(name, shape, codecs, idempotent): &(String, String, String, &str)| {
        format!("{name:names$}  {shape:shapes$}  {codecs}{idempotent}\n")
    };
    methods.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use getty_driver::rpc::reflection::{ListedMethod, ListedService};

    use super::*;

    #[test]
    fn a_method_is_a_line() {
        let method = |name: &str, shape: &str, idempotent| ListedMethod {
            name: name.to_owned(),
            shape: shape.to_owned(),
            codecs: vec!["json".to_owned(), "proto".to_owned()],
            idempotent,
        };
        let methods = vec![method("Long", "unary", true), method("B\n", "bidi_streaming", false)];
        let listing = Listing { services: vec![ListedService { name: "a.A".to_owned(), methods }] };
        let expected =
            "a.A/Long  unary           json,proto  idempotent\na.A/B     bidi_streaming  json,proto\n";
        assert_eq!(table(&listing), expected);
        assert_eq!(find(&listing, "a.A/Long"), Some(Shape::Unary));
        assert_eq!(find(&listing, "a.A/Other"), None);
    }
}
