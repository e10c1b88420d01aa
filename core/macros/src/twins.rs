//! The two traits of a service: one whose futures are `Send`, for runtimes with threads, and one whose need
//! not be. Neither implements the other: with both in scope, a method that calls another one of the service
//! would be ambiguous.

use proc_macro2::TokenStream;
use quote::quote;
use syn::FnArg;

use crate::method::Method;
use crate::service::Service;

pub(crate) fn expand(service: &Service) -> TokenStream {
    let Service { attributes, visibility, name, local, methods, .. } = service;
    let sendable = methods.iter().map(|method| declaration(method, &quote!(+ ::core::marker::Send)));
    let any = methods.iter().map(|method| declaration(method, &TokenStream::new()));
    let docs = format!(" [`{name}`] for services of one thread: its futures need not be `Send`.");
    quote! {
        #(#attributes)*
        #visibility trait #name: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#sendable)*
        }

        #[doc = #docs]
        #[allow(missing_docs)]
        #visibility trait #local: 'static {
            #(#any)*
        }
    }
}

/// A method of one of the traits, whose future has these bounds.
fn declaration(method: &Method, bounds: &TokenStream) -> TokenStream {
    let attributes = &method.attributes;
    let (name, output) = (method.name(), method.output());
    let future = quote!(impl ::core::future::Future<Output = #output> #bounds);
    match &method.default {
        None => {
            let parameters = named_parameters(method);
            quote! {
                #(#attributes)*
                fn #name(&self, #(#parameters),*) -> #future;
            }
        }
        Some(body) => {
            let parameters = method.parameters();
            quote! {
                #(#attributes)*
                #[allow(clippy::manual_async_fn)]
                fn #name(&self, #(#parameters),*) -> #future {
                    async move #body
                }
            }
        }
    }
}

/// The parameters, without `mut` before their names.
fn named_parameters(method: &Method) -> Vec<TokenStream> {
    let typed = method.signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(&input.ty),
        FnArg::Receiver(_) => None,
    });
    let named = method.arguments.iter().zip(typed);
    named
        .map(|(argument, ty)| {
            let name = &argument.name;
            quote!(#name: #ty)
        })
        .collect()
}
