//! The macros of getty's RPC. Use them from an adapter, which documents them with the types that they need:
//! `#[rpc::service]` and `#[derive(rpc::Error)]`.

mod client;
mod error;
mod getty;
mod method;
mod options;
mod server;
mod service;
mod twins;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a service of a trait. See `getty_driver::rpc::service`.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as options::ServiceOptions);
    let item = parse_macro_input!(item as syn::ItemTrait);
    service::expand(options, item).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Makes a type the error of methods. See `getty_driver::rpc::Error`.
#[proc_macro_derive(Error, attributes(rpc))]
pub fn error(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    error::expand(item).unwrap_or_else(|error| error.into_compile_error()).into()
}

#[cfg(test)]
mod tests;
