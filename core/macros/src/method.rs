//! [`Method`]: a method of a service.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::spanned::Spanned;
use syn::{
    Attribute, Block, Error, FnArg, GenericArgument, Ident, LitStr, Pat, PatType, PathArguments,
    ReceiverKind, ReturnType, Safety, Signature, TraitItemFn, Type, TypeReference,
};

use crate::options::MethodOptions;

/// A method of a service.
pub(crate) struct Method {
    /// Docs, `#[cfg]`, `#[deprecated]` and whatever else the user has written.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) options: MethodOptions,
    pub(crate) signature: Signature,
    /// The body of a method that need not be implemented.
    pub(crate) default: Option<Block>,
    pub(crate) arguments: Vec<Argument>,
    /// The types of the result. `None`: it is one-way.
    pub(crate) result: Option<Outcome>,
}

/// An argument of a method.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// What the handler gets to see of the call.
    Call,
    /// A part of the request value.
    Value(Type),
    /// The items of the caller.
    Receiver(Type),
    /// The items for the caller.
    Sender(Type),
}

/// `Result<answer, error>`.
pub(crate) struct Outcome {
    pub(crate) answer: Type,
    pub(crate) error: Type,
}

/// The request value of a method.
pub(crate) enum Value<'a> {
    /// The only argument.
    One(&'a Ident, &'a Type),
    /// A struct of this name with the arguments.
    Struct(Ident, Vec<(&'a Ident, &'a Type)>),
    None,
}

impl Method {
    pub(crate) fn parse(mut item: TraitItemFn) -> syn::Result<Self> {
        let options = MethodOptions::take(&mut item.attrs)?;
        check_name(&item.sig.ident)?;
        check_signature(&item.sig)?;
        let arguments = arguments(&item.sig)?;
        let result = result(&item.sig, &options)?;
        let method = Method {
            attributes: item.attrs,
            options,
            signature: item.sig,
            default: item.default,
            arguments,
            result,
        };
        method.check_shape()?;
        Ok(method)
    }

    fn check_shape(&self) -> syn::Result<()> {
        let arguments = || self.arguments.iter();
        let name = |argument: &'_ Argument| argument.name.clone();
        let mut senders = arguments().filter(|one| matches!(one.kind, Kind::Sender(_))).map(name);
        let mut receivers = arguments().filter(|one| matches!(one.kind, Kind::Receiver(_))).map(name);
        let (sender, receiver) = (senders.next(), receivers.next());
        if let Some(second) = senders.next() {
            return Err(Error::new(second.span(), "a method has at most one `Sender`: send an enum of both"));
        }
        if let Some(second) = receivers.next() {
            return Err(Error::new(
                second.span(),
                "a method has at most one `Receiver`: send an enum of both",
            ));
        }
        if let (None, Some(stream)) = (&self.result, sender.as_ref().or(receiver.as_ref())) {
            return Err(Error::new(
                stream.span(),
                "a one-way method has no streams: it ends when it is taken",
            ));
        }
        if let (Some(_), Some((first, _))) = (&receiver, self.values().next()) {
            let text = "a method with a `Receiver` has no other value: send it as the first item";
            return Err(Error::new(first.span(), text));
        }
        let is_unit = |ty: &Type| matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty());
        if let (Some(_), Some(result)) = (&sender, &self.result) {
            if !is_unit(&result.answer) {
                let text = "a method with a `Sender` answers with items: return `Result<(), error>`";
                return Err(Error::new(result.answer.span(), text));
            }
        }
        Ok(())
    }

    pub(crate) fn name(&self) -> &Ident {
        &self.signature.ident
    }

    /// The name on the wire, without the service.
    pub(crate) fn wire_name(&self) -> String {
        match &self.options.name {
            Some(name) => name.value(),
            // `r#type` is `type` on the wire.
            None => syn::ext::IdentExt::unraw(self.name()).to_string(),
        }
    }

    /// The attributes that say whether the method is there.
    pub(crate) fn cfg(&self) -> Vec<&Attribute> {
        self.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }

    /// The attributes that a caller is to see.
    pub(crate) fn shown(&self) -> Vec<&Attribute> {
        let is_shown = |attribute: &&Attribute| {
            ["cfg", "doc", "deprecated"].iter().any(|name| attribute.path().is_ident(name))
        };
        self.attributes.iter().filter(is_shown).collect()
    }

    fn values(&self) -> impl Iterator<Item = (&Ident, &Type)> {
        self.arguments.iter().filter_map(|argument| match &argument.kind {
            Kind::Value(ty) => Some((&argument.name, ty)),
            _ => None,
        })
    }

    /// The request value. `service` is the name of the trait.
    pub(crate) fn value(&self, service: &Ident) -> Value<'_> {
        let values: Vec<_> = self.values().collect();
        match values[..] {
            [] => Value::None,
            [(name, ty)] if !self.options.named => Value::One(name, ty),
            _ => {
                let method: String = self.wire_name().split(['_', '.', '-']).map(capitalized).collect();
                Value::Struct(format_ident!("{service}{method}Request", span = self.name().span()), values)
            }
        }
    }

    /// The type of the items of the caller.
    pub(crate) fn received(&self) -> Option<&Type> {
        self.arguments.iter().find_map(|argument| match &argument.kind {
            Kind::Receiver(ty) => Some(ty),
            _ => None,
        })
    }

    /// The type of the items for the caller.
    pub(crate) fn sent(&self) -> Option<&Type> {
        self.arguments.iter().find_map(|argument| match &argument.kind {
            Kind::Sender(ty) => Some(ty),
            _ => None,
        })
    }

    /// What the method returns.
    pub(crate) fn output(&self) -> TokenStream {
        match &self.signature.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, ty) => ty.to_token_stream(),
        }
    }

    /// The parameters after `self`, with the types of `rpc`.
    pub(crate) fn parameters(&self) -> Vec<TokenStream> {
        let typed = self.signature.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_)));
        typed.map(|input| input.to_token_stream()).collect()
    }
}

impl Value<'_> {
    /// The type of the value.
    pub(crate) fn ty(&self) -> TokenStream {
        match self {
            Value::One(_, ty) => ty.to_token_stream(),
            Value::Struct(name, _) => name.to_token_stream(),
            Value::None => quote!(()),
        }
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// The names that clients have for other things.
const TAKEN: [&str; 3] = ["new", "with", "caller"];

fn check_name(name: &Ident) -> syn::Result<()> {
    match TAKEN.iter().find(|taken| name == **taken) {
        Some(taken) => {
            let text = format!(
                "`{taken}` is a function of every client: name the method otherwise, and on the wire with \
                 `#[rpc(name = \"{taken}\")]`"
            );
            Err(Error::new(name.span(), text))
        }
        None => Ok(()),
    }
}

fn check_signature(signature: &Signature) -> syn::Result<()> {
    let Signature { constness, asyncness, safety, abi, generics, variadic, .. } = signature;
    let unwanted = [
        constness.as_ref().map(Spanned::span),
        (!matches!(safety, Safety::Default)).then(|| safety.span()),
        abi.as_ref().map(Spanned::span),
        variadic.as_ref().map(Spanned::span),
    ];
    if asyncness.is_none() || unwanted.iter().any(Option::is_some) {
        let span = unwanted.into_iter().flatten().next().unwrap_or(signature.fn_token.span);
        return Err(Error::new(span, "a method of a service is an `async fn`, and nothing beside it"));
    }
    if !generics.params.is_empty() {
        return Err(Error::new_spanned(
            &generics.params,
            "a method has no generics: one type goes over the wire",
        ));
    }
    if let Some(clause) = &generics.where_clause {
        return Err(Error::new_spanned(clause, "a method has no `where`: its types are known"));
    }
    Ok(())
}

fn arguments(signature: &Signature) -> syn::Result<Vec<Argument>> {
    let mut inputs = signature.inputs.iter();
    let takes_self = match inputs.next() {
        Some(FnArg::Receiver(this)) => {
            let is_shared = matches!(this.kind, ReceiverKind::Reference(_, None, None));
            if is_shared { Ok(()) } else { Err(this.span()) }
        }
        Some(FnArg::Typed(first)) => Err(first.span()),
        None => Err(signature.ident.span()),
    };
    if let Err(span) = takes_self {
        let text = "a method takes `&self`: calls share the service, and run at the same time";
        return Err(Error::new(span, text));
    }
    inputs.map(argument).collect()
}

fn argument(input: &FnArg) -> syn::Result<Argument> {
    let FnArg::Typed(PatType { pat, ty, .. }) = input else {
        return Err(Error::new(input.span(), "a method takes `&self` once"));
    };
    let name = match &**pat {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => name.ident.clone(),
        _ => return Err(Error::new(pat.span(), "an argument has a name, and no pattern")),
    };
    Ok(Argument { name, kind: kind(ty)? })
}

fn kind(ty: &Type) -> syn::Result<Kind> {
    match ty {
        Type::Reference(reference) => borrowed(reference),
        Type::ImplTrait(_) => {
            Err(Error::new(ty.span(), "`impl Trait` has no form on the wire: name the type"))
        }
        _ if stream(ty, "Sender").or(stream(ty, "Receiver")).is_some() => {
            Err(Error::new(ty.span(), "a stream is borrowed: write `&mut` before its type"))
        }
        _ => check_owned(ty).map(|()| Kind::Value(ty.clone())),
    }
}

fn borrowed(reference: &TypeReference) -> syn::Result<Kind> {
    let TypeReference { mutability, elem, .. } = reference;
    let is_mutable = mutability.is_some();
    if is_mutable {
        if let Some(item) = stream(elem, "Sender") {
            return check_owned(item).map(|()| Kind::Sender(item.clone()));
        }
        if let Some(item) = stream(elem, "Receiver") {
            return check_owned(item).map(|()| Kind::Receiver(item.clone()));
        }
    } else if last(elem).is_some_and(|segment| segment.ident == "Call") {
        return Ok(Kind::Call);
    }
    let text = "a value comes over the wire: take it by value (only `&Call`, `&mut Sender<..>` and \
                `&mut Receiver<..>` are borrowed)";
    Err(Error::new(reference.span(), text))
}

fn last(ty: &Type) -> Option<&syn::PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}

/// The type of the items, if `ty` is this end of a stream.
fn stream<'a>(ty: &'a Type, end: &str) -> Option<&'a Type> {
    let segment = last(ty).filter(|segment| segment.ident == end)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(item) => Some(item),
        _ => None,
    }
}

/// Checks that nothing in the type is borrowed.
fn check_owned(ty: &Type) -> syn::Result<()> {
    fn is_borrowed(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Punct(punct) => ['\'', '&'].contains(&punct.as_char()),
            TokenTree::Group(group) => is_borrowed(group.stream()),
            TokenTree::Ident(_) | TokenTree::Literal(_) => false,
        })
    }
    if is_borrowed(ty.to_token_stream()) {
        return Err(Error::new(
            ty.span(),
            "a value comes over the wire: its type owns it, and borrows nothing",
        ));
    }
    Ok(())
}

fn result(signature: &Signature, options: &MethodOptions) -> syn::Result<Option<Outcome>> {
    let returned = match &signature.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => Some(&**ty),
    };
    if let (Some(_), Some(returned)) = (&options.one_way, returned) {
        return Err(Error::new(returned.span(), "a one-way method returns nothing: nobody waits for it"));
    }
    if options.one_way.is_some() {
        return Ok(None);
    }
    let arguments = returned.and_then(last).filter(|segment| segment.ident == "Result");
    let arguments = arguments.map(|segment| &segment.arguments);
    if let Some(PathArguments::AngleBracketed(arguments)) = arguments {
        let mut types = arguments.args.iter();
        if let (Some(GenericArgument::Type(answer)), Some(GenericArgument::Type(error)), None) =
            (types.next(), types.next(), types.next())
        {
            check_owned(answer)?;
            check_owned(error)?;
            return Ok(Some(Outcome { answer: answer.clone(), error: error.clone() }));
        }
    }
    let span = returned.map_or(signature.ident.span(), Spanned::span);
    Err(Error::new(span, "a method returns `Result<answer, error>`, with both types: a call can always fail"))
}

/// The full name on the wire, at the place of the method in the user's code.
pub(crate) fn full_name(service: &str, method: &Method) -> LitStr {
    LitStr::new(&format!("{service}/{}", method.wire_name()), method.name().span())
}
