//! The type that calls a service: `RoomClient`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::method::{Kind, Method, Value, full_name};
use crate::server::shape;
use crate::service::Service;

pub(crate) fn expand(service: &Service) -> TokenStream {
    let Service { visibility, name, codec, rpc, methods, .. } = service;
    let client = format_ident!("{name}Client");
    let docs = format!(" Calls [`{name}`] on the other side of a connection, or of a pool of them.");
    let methods = methods.iter().map(|method| method_of(service, method));
    quote! {
        #[doc = #docs]
        #[derive(Debug, Clone)]
        #[allow(dead_code)]
        #visibility struct #client<C = #codec> {
            caller: #rpc::Caller,
            codec: C,
        }

        #[allow(dead_code)]
        impl #client {
            /// Calls with the codec that the trait names.
            pub fn new(caller: #rpc::Caller) -> Self {
                Self { caller, codec: #codec }
            }
        }

        #[allow(dead_code, missing_docs)]
        impl<C: #rpc::Codec> #client<C> {
            /// Calls with another codec, which the other side must serve too.
            pub fn with(caller: #rpc::Caller, codec: C) -> Self {
                Self { caller, codec }
            }

            /// The way to the other side.
            pub fn caller(&self) -> &#rpc::Caller {
                &self.caller
            }

            #(#methods)*
        }
    }
}

fn method_of(service: &Service, method: &Method) -> TokenStream {
    let rpc = &service.rpc;
    let (shown, name) = (method.shown(), method.name());
    let wire_name = full_name(&service.wire_name, method);
    let parameters = method.arguments.iter().filter_map(|argument| match &argument.kind {
        Kind::Value(ty) => {
            let name = &argument.name;
            Some(quote!(#name: #ty))
        }
        _ => None,
    });
    let shape = Ident::new(shape(method), Span::call_site());
    let calling = match (&method.result, method.received(), method.sent()) {
        (None, ..) => quote!(#rpc::OneWay),
        (Some(result), received, sent) => {
            let items = received.into_iter().chain(sent);
            let answer = sent.is_none().then_some(&result.answer);
            let types = items.chain(answer).chain([&result.error]);
            quote!(#rpc::#shape<C, #(#types),*>)
        }
    };
    let value = match method.value(&service.name) {
        Value::One(name, _) => quote!(&#name),
        Value::Struct(ty, fields) => {
            let names = fields.iter().map(|(name, _)| name);
            quote!(&#ty { #(#names),* })
        }
        Value::None => quote!(&()),
    };
    let codec = quote!(::core::clone::Clone::clone(&self.codec));
    let begin = match (method.result.is_some(), method.received().is_some(), method.sent().is_some()) {
        (false, ..) => quote!(self.caller.one_way(#wire_name, #codec, #value)),
        (true, false, false) => quote!(self.caller.call(#wire_name, #codec, #value).with_error()),
        (true, false, true) => quote!(self.caller.server_streaming(#wire_name, #codec, #value).with_error()),
        (true, true, false) => quote!(self.caller.client_streaming(#wire_name, #codec).with_error()),
        (true, true, true) => quote!(self.caller.bidi_streaming(#wire_name, #codec).with_error()),
    };
    let bounds = bounds(service, method);
    quote! {
        #(#shown)*
        pub fn #name(&self, #(#parameters),*) -> #rpc::Calling<#calling>
        where
            #bounds
        {
            #begin
        }
    }
}

/// What a codec must be able to do for a method.
fn bounds(service: &Service, method: &Method) -> TokenStream {
    let rpc = &service.rpc;
    let mut bounds = Vec::new();
    match method.received() {
        Some(item) => bounds.push(quote_spanned!(item.span()=> C: #rpc::Encode<#item>,)),
        None => {
            let ty = method.value(&service.name).ty();
            bounds.push(quote!(C: #rpc::Encode<#ty>,));
        }
    }
    if let Some(item) = method.sent() {
        bounds.push(quote_spanned!(item.span()=> C: #rpc::Decode<#item>,));
    }
    if let Some(result) = &method.result {
        let (answer, error) = (&result.answer, &result.error);
        if method.sent().is_none() {
            bounds.push(quote_spanned!(answer.span()=> C: #rpc::Decode<#answer>,));
        }
        bounds.push(quote_spanned!(error.span()=> #error: #rpc::MethodError<C>,));
    }
    quote!(#(#bounds)*)
}
