//! A trait becomes a service.

use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, ItemTrait, Path, TraitItem, Visibility, parse_quote};

use crate::method::{Method, Value};
use crate::options::ServiceOptions;
use crate::{client, getty, server, twins};

/// The longest name of a method on the wire in bytes, with that of its service: `Request::MAX_METHOD`.
const MAX_NAME: usize = 1024;

/// A service, as the user has written it.
pub(crate) struct Service {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    /// The trait whose futures are `Send`.
    pub(crate) name: Ident,
    /// The trait whose futures need not be.
    pub(crate) local: Ident,
    /// The name on the wire.
    pub(crate) wire_name: String,
    pub(crate) codec: Path,
    /// The module `rpc`.
    pub(crate) rpc: Path,
    pub(crate) methods: Vec<Method>,
}

pub(crate) fn expand(options: ServiceOptions, item: ItemTrait) -> syn::Result<TokenStream> {
    let service = Service::parse(options, item)?;
    let twins = twins::expand(&service);
    let values = service.methods.iter().map(|method| values(&service, method));
    let server = server::expand(&service);
    let client = client::expand(&service);
    let spoken = spoken(&service);
    Ok(quote!(#twins #(#values)* #spoken #server #client))
}

impl Service {
    fn parse(options: ServiceOptions, item: ItemTrait) -> syn::Result<Self> {
        let rpc = getty::rpc(options.getty)?;
        let (name, generics) = (item.ident, &item.generics);
        if !generics.params.is_empty() || generics.where_clause.is_some() {
            let text = "a service has no generics and no lifetimes: its messages have the types";
            return Err(Error::new(generics.span(), text));
        }
        if !item.supertraits.is_empty() {
            let text = "a service has no supertraits: bound the type that implements it";
            return Err(Error::new(item.supertraits.span(), text));
        }
        let mut methods = Vec::new();
        let mut errors: Option<Error> = None;
        for item in item.items {
            let method = match item {
                TraitItem::Fn(item) => Method::parse(item),
                other => Err(Error::new(other.span(), "a service has only methods")),
            };
            match (method, &mut errors) {
                (Ok(method), _) => methods.push(method),
                // All are shown at once.
                (Err(error), Some(errors)) => errors.combine(error),
                (Err(error), errors) => *errors = Some(error),
            }
        }
        if let Some(errors) = errors {
            return Err(errors);
        }
        let wire_name = options.name.map_or_else(|| name.to_string(), |name| name.value());
        let codec = options.codec.unwrap_or_else(|| parse_quote!(#rpc::Json));
        let local = format_ident!("Local{name}");
        let service = Service {
            attributes: item.attrs,
            visibility: item.vis,
            local,
            name,
            wire_name,
            codec,
            rpc,
            methods,
        };
        service.check()?;
        Ok(service)
    }

    fn check(&self) -> syn::Result<()> {
        let mut names = HashSet::new();
        for method in &self.methods {
            let name = method.wire_name();
            // One that is left out by `#[cfg]` may have a double that is not.
            if !names.insert(name.clone()) && method.cfg().is_empty() {
                let text = format!("two methods have the name `{name}` on the wire");
                return Err(Error::new(method.name().span(), text));
            }
            if self.wire_name.len() + 1 + name.len() > MAX_NAME {
                let text =
                    format!("a name on the wire has at most {MAX_NAME} bytes, with that of the service");
                return Err(Error::new(method.name().span(), text));
            }
            let is_protobuf = self.codec.segments.last().is_some_and(|codec| codec.ident == "Protobuf");
            if is_protobuf && matches!(method.value(&self.name), Value::Struct(..)) {
                let text = "with Protobuf a method takes one message: put its arguments into one";
                return Err(Error::new(method.name().span(), text));
            }
        }
        Ok(())
    }
}

/// Asks whether the codec of the trait has a form for all types, so that an error is shown in the trait.
fn spoken(service: &Service) -> TokenStream {
    let Service { rpc, codec, name, methods, .. } = service;
    let checks = methods.iter().map(|method| {
        let cfg = method.cfg();
        let value = match method.value(name) {
            Value::One(_, ty) => Some(ty.clone()),
            Value::Struct(..) | Value::None => None,
        };
        let types = [value, method.received().cloned(), method.sent().cloned()].into_iter().flatten();
        let answer = method.result.as_ref().map(|result| result.answer.clone());
        let types = types.chain(answer).map(|ty| {
            let [rpc, codec] = [rpc, codec].map(|path| at(path, ty.span()));
            quote_spanned!(ty.span()=> #rpc::generated::is_spoken::<#codec, #ty>();)
        });
        let error = method.result.as_ref().map(|result| {
            let error = &result.error;
            let [rpc, codec] = [rpc, codec].map(|path| at(path, error.span()));
            quote_spanned!(error.span()=> #rpc::generated::is_error::<#codec, #error>();)
        });
        quote!(#(#cfg)* { #(#types)* #error })
    });
    quote! {
        #[allow(unused_qualifications)]
        const _: fn() = || {
            #(#checks)*
        };
    }
}

/// `path` as if it was written at `span`.
fn at(path: &Path, span: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

/// The struct with the arguments of a method, if it has several.
fn values(service: &Service, method: &Method) -> TokenStream {
    let Value::Struct(name, fields) = method.value(&service.name) else { return TokenStream::new() };
    let Service { visibility, rpc, .. } = service;
    let cfg = method.cfg();
    let (names, types): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let docs = format!(" The arguments of [`{}::{}`] on the wire.", service.name, method.name());
    let serde = quote!(#rpc::generated::serde);
    let path = serde.to_token_stream().to_string().replace(' ', "");
    quote! {
        #(#cfg)*
        #[doc = #docs]
        #[allow(dead_code, missing_debug_implementations)]
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #path)]
        #visibility struct #name {
            #(#[allow(missing_docs)] #visibility #names: #types,)*
        }
    }
}
