//! What users write in the parentheses of attributes.

use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Ident, LitStr, Path, Token};

/// The options of a service: `#[rpc::service(name = "chat.v1.Room", codec = Json)]`.
pub(crate) struct ServiceOptions {
    /// The name on the wire.
    pub(crate) name: Option<LitStr>,
    /// The codec of those who name none.
    pub(crate) codec: Option<Path>,
    /// The crate that has the module `rpc`.
    pub(crate) getty: Option<Path>,
}

impl Parse for ServiceOptions {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = ServiceOptions { name: None, codec: None, getty: None };
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                options.name = Some(wire_name(&meta)?);
            } else if meta.path.is_ident("codec") {
                options.codec = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("crate") {
                options.getty = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("expected `name = \"..\"`, `codec = ..` or `crate = ..`"));
            }
            Ok(())
        });
        let tokens: proc_macro2::TokenStream = input.parse()?;
        syn::parse::Parser::parse2(parser, tokens)?;
        Ok(options)
    }
}

/// The options of a method: `#[rpc(idempotent)]`.
#[derive(Default)]
pub(crate) struct MethodOptions {
    /// Executing it twice does no harm.
    pub(crate) idempotent: bool,
    /// It has no answer.
    pub(crate) one_way: Option<Ident>,
    /// Its handler is not dropped when the call is given up.
    pub(crate) runs_on: bool,
    /// Its value is an object with names, though it is only one.
    pub(crate) named: bool,
    /// The name on the wire.
    pub(crate) name: Option<LitStr>,
}

impl MethodOptions {
    /// Takes the options of a method out of its attributes.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> syn::Result<Self> {
        let mut options = MethodOptions::default();
        let (ours, others) = attributes.drain(..).partition(|attribute| attribute.path().is_ident("rpc"));
        *attributes = others;
        let ours: Vec<Attribute> = ours;
        for attribute in ours {
            attribute.parse_nested_meta(|meta| {
                let known = |name: &str| meta.path.is_ident(name);
                if known("idempotent") {
                    options.idempotent = true;
                } else if known("one_way") {
                    options.one_way = meta.path.get_ident().cloned();
                } else if known("runs_on") {
                    options.runs_on = true;
                } else if known("named") {
                    options.named = true;
                } else if known("name") {
                    options.name = Some(wire_name(&meta)?);
                } else {
                    let text = "expected `idempotent`, `one_way`, `runs_on`, `named` or `name = \"..\"`";
                    return Err(meta.error(text));
                }
                Ok(())
            })?;
        }
        Ok(options)
    }
}

fn wire_name(meta: &ParseNestedMeta<'_>) -> syn::Result<LitStr> {
    let _: Token![=] = meta.input.parse()?;
    let name: LitStr = meta.input.parse()?;
    let text = name.value();
    let is_valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if is_valid {
        Ok(name)
    } else {
        Err(syn::Error::new(name.span(), "a name on the wire has ASCII letters, digits, `.`, `_` and `-`"))
    }
}
