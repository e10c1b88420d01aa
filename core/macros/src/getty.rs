//! The crate of getty that the user depends on.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::Span;
use syn::{Error, Ident, Path, parse_quote};

/// The crates that have the module `rpc`, the likeliest first.
const CRATES: [&str; 5] = ["getty-tokio", "getty-smol", "getty-async-std", "getty-async-io", "getty-driver"];

/// The path of the module `rpc`: in `named`, if the user has named a crate, or in the first of getty's crates
/// that the user's depends on.
pub(crate) fn rpc(named: Option<Path>) -> syn::Result<Path> {
    if let Some(named) = named {
        return Ok(parse_quote!(#named::rpc));
    }
    for name in CRATES {
        let ident = match crate_name(name) {
            Ok(FoundCrate::Name(name)) => Ident::new(&name, Span::call_site()),
            // Its own tests and examples.
            Ok(FoundCrate::Itself) => Ident::new(&name.replace('-', "_"), Span::call_site()),
            Err(_) => continue,
        };
        return Ok(parse_quote!(::#ident::rpc));
    }
    let text = "this crate does not depend on getty-tokio or another adapter of getty: \
                add one, or name the crate that has the module `rpc` with `crate = path`";
    Err(Error::new(Span::call_site(), text))
}
