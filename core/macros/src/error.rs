//! `#[derive(rpc::Error)]`: a type becomes the error of methods.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Path, Variant};

use crate::getty;

/// What users write beside a type or a variant: `#[rpc(code = NotFound)]`, `#[rpc(status)]`.
#[derive(Default)]
struct Options {
    code: Option<Ident>,
    is_status: bool,
    getty: Option<Path>,
}

impl Options {
    fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut options = Options::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("rpc")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("code") {
                    options.code = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("status") {
                    options.is_status = true;
                } else if meta.path.is_ident("crate") {
                    options.getty = Some(meta.value()?.parse()?);
                } else {
                    return Err(meta.error("expected `code = ..`, `status` or `crate = ..`"));
                }
                Ok(())
            })?;
        }
        Ok(options)
    }
}

pub(crate) fn expand(input: DeriveInput) -> syn::Result<TokenStream> {
    let options = Options::read(&input.attrs)?;
    let rpc = getty::rpc(options.getty.clone())?;
    let name = &input.ident;
    if !input.generics.params.is_empty() {
        return Err(Error::new(input.generics.span(), "an error of a method has no generics"));
    }
    let (codes, status) = match &input.data {
        Data::Enum(data) => variants(&rpc, name, &options, data.variants.iter())?,
        Data::Struct(_) => {
            let code = options.code.ok_or_else(|| Error::new(name.span(), NO_CODE))?;
            (quote!(_ => #rpc::Code::#code,), None)
        }
        Data::Union(_) => return Err(Error::new(name.span(), "an error is an enum or a struct")),
    };
    let (as_status, from_status) = match status {
        None => (None, None),
        Some(variant) => (
            Some(quote!(if let #name::#variant(status) = self { return status; })),
            Some(quote! {
                impl ::core::convert::From<#rpc::Status> for #name {
                    fn from(status: #rpc::Status) -> Self {
                        #name::#variant(status)
                    }
                }
            }),
        ),
    };
    Ok(quote! {
        impl<C> #rpc::MethodError<C> for #name
        where
            C: #rpc::Encode<#name> + #rpc::Decode<#name>,
        {
            type Failure = #rpc::CallError<#name>;

            fn into_status(self, codec: &C) -> #rpc::Status {
                #as_status
                let code = match &self { #codes };
                #rpc::generated::status(code, &self, codec)
            }

            fn failure(status: #rpc::Status, codec: &C) -> #rpc::CallError<#name> {
                #rpc::CallError::from_status(status, codec)
            }
        }

        #from_status
    })
}

const NO_CODE: &str = "an error has a code: write `#[rpc(code = NotFound)]`, or another of `rpc::Code`";

/// The code of each variant, and the variant that holds a status.
fn variants<'a>(
    rpc: &Path,
    name: &Ident,
    all: &Options,
    variants: impl Iterator<Item = &'a Variant>,
) -> syn::Result<(TokenStream, Option<Ident>)> {
    let (mut codes, mut status) = (Vec::new(), None);
    for variant in variants {
        let options = Options::read(&variant.attrs)?;
        let ident = &variant.ident;
        if options.is_status {
            let holds_one = matches!(&variant.fields, Fields::Unnamed(fields) if fields.unnamed.len() == 1);
            if !holds_one || options.code.is_some() {
                let text =
                    "a variant with `#[rpc(status)]` holds a `Status` and nothing else: it has the code";
                return Err(Error::new(ident.span(), text));
            }
            if status.replace(ident.clone()).is_some() {
                return Err(Error::new(ident.span(), "only one variant holds a `Status`"));
            }
            codes.push(quote!(#name::#ident(status) => status.code(),));
            continue;
        }
        let Some(code) = options.code.as_ref().or(all.code.as_ref()) else {
            return Err(Error::new(ident.span(), NO_CODE));
        };
        codes.push(quote_spanned!(code.span()=> #name::#ident { .. } => #rpc::Code::#code,));
    }
    Ok((quote!(#(#codes)*), status))
}
