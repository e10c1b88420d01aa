//! The types that serve what implements a service: `RoomService`, and `LocalRoomService` for one thread.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::LitByteStr;
use syn::spanned::Spanned;

use crate::method::{Kind, Method, Value, full_name};
use crate::service::Service;

pub(crate) fn expand(service: &Service) -> TokenStream {
    let types = [&service.name, &service.local].map(|of| server(service, of));
    quote!(#(#types)*)
}

/// The type that serves what implements the trait `of`.
fn server(service: &Service, of: &Ident) -> TokenStream {
    let Service { visibility, wire_name, codec, rpc, methods, .. } = service;
    let server = format_ident!("{of}Service");
    let docs = format!(" Serves what implements [`{of}`]: add it to `Services`.");
    let names = methods.iter().map(|method| {
        let (cfg, pattern) = (method.cfg(), pattern(method));
        quote!(#(#cfg)* Some(#pattern) => true,)
    });
    let known = methods.iter().map(|method| {
        let (cfg, info) = (method.cfg(), info(service, method));
        quote!(#(#cfg)* methods.push(#info);)
    });
    let bounds = methods.iter().map(|method| bounds(service, method));
    let bounds: Vec<_> = bounds.collect();
    let arms = methods.iter().map(|method| arm(service, of, method));
    let [codec_of_call, inbound] = [local_name("codec"), local_name("inbound")];
    quote! {
        #[doc = #docs]
        #[derive(Debug, Clone)]
        #[allow(dead_code)]
        #visibility struct #server<S, C = #codec> {
            service: S,
            codecs: C,
        }

        #[allow(dead_code)]
        impl #server<(), #codec> {
            /// The name of the service on the wire.
            pub const NAME: &'static str = #wire_name;
        }

        #[allow(dead_code)]
        impl<S: #of> #server<S> {
            /// Serves `service` with the codec that the trait names.
            pub fn new(service: S) -> Self {
                Self { service, codecs: #codec }
            }
        }

        #[allow(dead_code)]
        impl<S: #of, C: #rpc::Codecs> #server<S, C> {
            /// Serves `service` with a codec, or with several (`(Json, Protobuf)`), of which a call has one.
            pub fn with(service: S, codecs: C) -> Self {
                Self { service, codecs }
            }
        }

        #[allow(deprecated)]
        impl<S, C> #rpc::Dispatch for #server<S, C>
        where
            S: #of,
            C: #rpc::Codecs,
            #(#bounds)*
        {
            fn dispatch(
                &self,
                #inbound: #rpc::Inbound,
            ) -> impl ::core::future::Future<Output = #rpc::Response> {
                async move {
                    let #codec_of_call = #rpc::generated::choose(&self.codecs, &#inbound)?;
                    match #inbound.method_of(#wire_name) {
                        #(#arms)*
                        _ => #rpc::generated::not_served(&#inbound),
                    }
                }
            }
        }

        impl<S, C> #rpc::Service for #server<S, C>
        where
            S: #of,
            C: #rpc::Codecs,
            #(#bounds)*
        {
            fn methods(&self) -> ::std::vec::Vec<#rpc::MethodInfo> {
                let mut methods = ::std::vec::Vec::new();
                #(#known)*
                methods
            }

            fn has(&self, inbound: &#rpc::Inbound) -> bool {
                match inbound.method_of(#wire_name) {
                    #(#names)*
                    _ => false,
                }
            }
        }
    }
}

/// The name of a variable that no argument of the user's can hide.
fn local_name(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn pattern(method: &Method) -> LitByteStr {
    LitByteStr::new(method.wire_name().as_bytes(), method.name().span())
}

/// What is known of a method without calling it.
fn info(service: &Service, method: &Method) -> TokenStream {
    let rpc = &service.rpc;
    let name = full_name(&service.wire_name, method);
    let shape = Ident::new(shape(method), Span::call_site());
    let idempotent = method.options.idempotent.then(|| quote!(.idempotent()));
    quote! {
        #rpc::MethodInfo::new(#name, #rpc::CallShape::#shape, #rpc::Codecs::names(&self.codecs)) #idempotent
    }
}

/// The name of the shape of a method, in `CallShape` and among the types.
pub(crate) fn shape(method: &Method) -> &'static str {
    match (method.received(), method.sent()) {
        _ if method.result.is_none() => "OneWay",
        (None, None) => "Unary",
        (None, Some(_)) => "ServerStreaming",
        (Some(_), None) => "ClientStreaming",
        (Some(_), Some(_)) => "BidiStreaming",
    }
}

/// What a codec must be able to do for a method.
fn bounds(service: &Service, method: &Method) -> TokenStream {
    let rpc = &service.rpc;
    let value = method.value(&service.name);
    let mut bounds = Vec::new();
    match method.received() {
        Some(item) => bounds.push(quote_spanned!(item.span()=> C::One: #rpc::Decode<#item>,)),
        None => {
            let ty = value.ty();
            bounds.push(quote!(C::One: #rpc::Decode<#ty>,));
        }
    }
    if let Some(item) = method.sent() {
        bounds.push(quote_spanned!(item.span()=> C::One: #rpc::Encode<#item>,));
    }
    if let Some(result) = &method.result {
        let (answer, error) = (&result.answer, &result.error);
        if method.sent().is_none() {
            bounds.push(quote_spanned!(answer.span()=> C::One: #rpc::Encode<#answer>,));
        }
        bounds.push(quote_spanned!(error.span()=> #error: #rpc::MethodError<C::One>,));
    }
    quote!(#(#bounds)*)
}

/// What a call of a method of the trait `of` does.
fn arm(service: &Service, of: &Ident, method: &Method) -> TokenStream {
    let Service { rpc, name: service_name, .. } = service;
    let (cfg, pattern, name) = (method.cfg(), pattern(method), method.name());
    let [codec, inbound, call] = [local_name("codec"), local_name("inbound"), local_name("call")];
    let (mut streams, mut arguments) = (Vec::new(), Vec::new());
    for argument in &method.arguments {
        let name = &argument.name;
        match &argument.kind {
            Kind::Call => arguments.push(quote!(&#call)),
            Kind::Value(_) => arguments.push(quote!(#name)),
            Kind::Receiver(_) => {
                streams.push(quote!(let mut #name = #rpc::generated::receiver(&mut #inbound, &#codec);));
                arguments.push(quote!(&mut #name));
            }
            Kind::Sender(_) => {
                streams.push(quote!(let mut #name = #rpc::generated::sender(&mut #inbound, &#codec);));
                arguments.push(quote!(&mut #name));
            }
        }
    }
    let inbound_again = (!streams.is_empty()).then(|| quote!(let mut #inbound = #inbound;));
    let value = match method.value(service_name) {
        _ if method.received().is_some() => quote!(let #call = #rpc::generated::call(#inbound);),
        Value::None => quote!(let (#call, ()) = #rpc::generated::value(#inbound, &#codec)?;),
        Value::One(name, ty) => {
            quote!(let (#call, #name): (_, #ty) = #rpc::generated::value(#inbound, &#codec)?;)
        }
        Value::Struct(ty, fields) => {
            let names = fields.iter().map(|(name, _)| name);
            quote!(let (#call, #ty { #(#names),* }) = #rpc::generated::value(#inbound, &#codec)?;)
        }
    };
    let run_on = method.options.runs_on.then(|| quote!(#call.run_on();));
    let handler = quote!(<S as #of>::#name(&self.service, #(#arguments),*).await);
    let end = match (&method.result, method.sent()) {
        (None, _) => quote!({ #handler; #rpc::generated::taken() }),
        (Some(_), Some(_)) => quote!(#rpc::generated::ended(#handler, &#codec)),
        (Some(_), None) => quote!(#rpc::generated::answer(#handler, &#codec)),
    };
    quote! {
        #(#cfg)*
        Some(#pattern) => {
            #inbound_again
            #(#streams)*
            #value
            #run_on
            #end
        }
    }
}
