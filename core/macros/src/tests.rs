//! What users wrote that can't be a service: one sentence each, at the place in their code.

use proc_macro2::{Span, TokenStream};

/// The errors of a service: each sentence, and the text that it points at.
fn errors(source: &str) -> Vec<(String, String)> {
    found(source, expand(source))
}

fn expand(source: &str) -> syn::Result<TokenStream> {
    let item: syn::ItemTrait = syn::parse_str(source)?;
    let options = item.attrs[0].meta.require_list()?.tokens.clone();
    let options = syn::parse2(quote::quote!(crate = getty, #options))?;
    crate::service::expand(options, syn::ItemTrait { attrs: Vec::new(), ..item })
}

/// The errors of a derived error.
fn errors_of_error(source: &str) -> Vec<(String, String)> {
    found(source, syn::parse_str(source).and_then(crate::error::expand))
}

fn found(source: &str, result: syn::Result<TokenStream>) -> Vec<(String, String)> {
    let error = result.expect_err("an error");
    error.into_iter().map(|error| (error.to_string(), text(source, error.span()))).collect()
}

/// The text of `source` at `span`.
fn text(source: &str, span: Span) -> String {
    let place = |at: proc_macro2::LineColumn| {
        let line: usize = source.split_inclusive('\n').take(at.line - 1).map(str::len).sum();
        line + source[line..].chars().take(at.column).map(char::len_utf8).sum::<usize>()
    };
    source[place(span.start())..place(span.end())].to_owned()
}

#[track_caller]
fn one(source: &str, sentence: &str, at: &str) {
    assert_eq!(errors(source), [(sentence.to_owned(), at.to_owned())], "{source}");
}

/// A service with one method.
#[track_caller]
fn method(method: &str, sentence: &str, at: &str) {
    one(&format!("#[service()] trait Room {{ {method} }}"), sentence, at);
}

#[test]
fn a_trait_that_is_no_service() {
    let generics = "a service has no generics and no lifetimes: its messages have the types";
    one("#[service()] trait Room<T> {}", generics, "<T>");
    one("#[service()] trait Room<'a> {}", generics, "<'a>");
    let supertraits = "a service has no supertraits: bound the type that implements it";
    one("#[service()] trait Room: Clone + Send {}", supertraits, "Clone + Send");
    let methods = "a service has only methods";
    one("#[service()] trait Room { type Line; }", methods, "type Line;");
    one("#[service()] trait Room { const MAX: u8; }", methods, "const MAX: u8;");
}

#[test]
fn a_function_that_is_no_method() {
    let plain = "a method of a service is an `async fn`, and nothing beside it";
    method("fn who(&self) -> Result<(), Status>;", plain, "fn");
    method("async unsafe fn who(&self) -> Result<(), Status>;", plain, "unsafe");
    method("async extern \"C\" fn who(&self) -> Result<(), Status>;", plain, "extern \"C\"");
    let generics = "a method has no generics: one type goes over the wire";
    method("async fn who<T>(&self, value: T) -> Result<(), Status>;", generics, "T");
    method("async fn who<'a>(&self) -> Result<(), Status>;", generics, "'a");
    let clause = "a method has no `where`: its types are known";
    method("async fn who(&self) -> Result<(), Status> where Self: Sized;", clause, "where Self: Sized");
    let this = "a method takes `&self`: calls share the service, and run at the same time";
    method("async fn who(&mut self) -> Result<(), Status>;", this, "&mut self");
    method("async fn who(self) -> Result<(), Status>;", this, "self");
    method("async fn who(self: Arc<Self>) -> Result<(), Status>;", this, "self: Arc<Self>");
    method("async fn who(name: String) -> Result<(), Status>;", this, "name: String");
    method("async fn who() -> Result<(), Status>;", this, "who");
}

#[test]
fn arguments_that_do_not_go_over_a_wire() {
    let borrowed = "a value comes over the wire: take it by value (only `&Call`, `&mut Sender<..>` and \
                    `&mut Receiver<..>` are borrowed)";
    method("async fn who(&self, name: &str) -> Result<(), Status>;", borrowed, "&str");
    method("async fn who(&self, call: &mut Call) -> Result<(), Status>;", borrowed, "&mut Call");
    method("async fn who(&self, out: &Sender<u8>) -> Result<(), Status>;", borrowed, "&Sender<u8>");
    let owned = "a value comes over the wire: its type owns it, and borrows nothing";
    method("async fn who(&self, name: Cow<'_, str>) -> Result<(), Status>;", owned, "Cow<'_, str>");
    method("async fn who(&self, all: Vec<&str>) -> Result<(), Status>;", owned, "Vec<&str>");
    method("async fn who(&self, out: &mut Sender<(u8, &str)>) -> Result<(), Status>;", owned, "(u8, &str)");
    method("async fn who(&self, lines: &mut Receiver<&str>) -> Result<(), Status>;", owned, "&str");
    method("async fn who(&self) -> Result<&str, Status>;", owned, "&str");
    method("async fn who(&self) -> Result<(), Cow<'static, str>>;", owned, "Cow<'static, str>");
    let named = "`impl Trait` has no form on the wire: name the type";
    method("async fn who(&self, name: impl Into<String>) -> Result<(), Status>;", named, "impl Into<String>");
    let by_value = "a stream is borrowed: write `&mut` before its type";
    method("async fn who(&self, out: Sender<u8>) -> Result<(), Status>;", by_value, "Sender<u8>");
    method(
        "async fn who(&self, lines: rpc::Receiver<u8>) -> Result<(), Status>;",
        by_value,
        "rpc::Receiver<u8>",
    );
    let pattern = "an argument has a name, and no pattern";
    method("async fn who(&self, (a, b): (u8, u8)) -> Result<(), Status>;", pattern, "(a, b)");
}

#[test]
fn shapes_that_there_are_not() {
    let sender = "a method has at most one `Sender`: send an enum of both";
    let source = "async fn f(&self, a: &mut Sender<u8>, b: &mut Sender<u8>) -> Result<(), Status>;";
    method(source, sender, "b");
    let receiver = "a method has at most one `Receiver`: send an enum of both";
    let source = "async fn f(&self, a: &mut Receiver<u8>, b: &mut Receiver<u8>) -> Result<(), Status>;";
    method(source, receiver, "b");
    let first = "a method with a `Receiver` has no other value: send it as the first item";
    let source = "async fn f(&self, name: String, lines: &mut Receiver<u8>) -> Result<(), Status>;";
    method(source, first, "name");
    let items = "a method with a `Sender` answers with items: return `Result<(), error>`";
    method("async fn f(&self, out: &mut Sender<u8>) -> Result<u8, Status>;", items, "u8");
    let one_way = "a one-way method has no streams: it ends when it is taken";
    method("#[rpc(one_way)] async fn f(&self, out: &mut Sender<u8>);", one_way, "out");
    let nothing = "a one-way method returns nothing: nobody waits for it";
    method("#[rpc(one_way)] async fn f(&self) -> Result<(), Status>;", nothing, "Result<(), Status>");
    let result = "a method returns `Result<answer, error>`, with both types: a call can always fail";
    method("async fn f(&self);", result, "f");
    method("async fn f(&self) -> u8;", result, "u8");
    method("async fn f(&self) -> io::Result<u8>;", result, "io::Result<u8>");
}

#[test]
fn names_and_options() {
    let options = "expected `idempotent`, `one_way`, `runs_on`, `named` or `name = \"..\"`";
    method("#[rpc(idempotant)] async fn f(&self) -> Result<(), Status>;", options, "idempotant");
    let name = "a name on the wire has ASCII letters, digits, `.`, `_` and `-`";
    method("#[rpc(name = \"a/b\")] async fn f(&self) -> Result<(), Status>;", name, "\"a/b\"");
    one("#[service(name = \"\")] trait Room {}", name, "\"\"");
    let options = "expected `name = \"..\"`, `codec = ..` or `crate = ..`";
    one("#[service(names = \"a\")] trait Room {}", options, "names");
    let taken = "`new` is a function of every client: name the method otherwise, and on the wire with \
                 `#[rpc(name = \"new\")]`";
    method("async fn new(&self) -> Result<(), Status>;", taken, "new");
    let source = "async fn f(&self) -> Result<(), Status>; \
                  #[rpc(name = \"f\")] async fn g(&self) -> Result<(), Status>;";
    method(source, "two methods have the name `f` on the wire", "g");
    let long = "n".repeat(1020);
    let source = format!("async fn {long}(&self) -> Result<(), Status>;");
    method(&source, "a name on the wire has at most 1024 bytes, with that of the service", &long);
    let source = "#[service(codec = rpc::Protobuf)] trait Room { \
                  async fn f(&self, a: u8, b: u8) -> Result<(), Status>; }";
    one(source, "with Protobuf a method takes one message: put its arguments into one", "f");
}

#[test]
fn all_errors_of_a_service_are_shown_at_once() {
    let source =
        "#[service()] trait Room { async fn f(&self); async fn g(&mut self) -> Result<(), Status>; }";
    let places: Vec<_> = errors(source).into_iter().map(|(_, at)| at).collect();
    assert_eq!(places, ["f", "&mut self"]);
}

#[test]
fn errors_without_a_code() {
    let code = "an error has a code: write `#[rpc(code = NotFound)]`, or another of `rpc::Code`";
    let at = |sentence: &str, at: &str| [(sentence.to_owned(), at.to_owned())];
    assert_eq!(errors_of_error("#[rpc(crate = getty)] struct Gone;"), at(code, "Gone"));
    let source = "#[rpc(crate = getty)] enum E { #[rpc(code = NotFound)] A, B }";
    assert_eq!(errors_of_error(source), at(code, "B"));
    let status = "a variant with `#[rpc(status)]` holds a `Status` and nothing else: it has the code";
    let source = "#[rpc(crate = getty)] enum E { #[rpc(status)] A }";
    assert_eq!(errors_of_error(source), at(status, "A"));
    let source = "#[rpc(crate = getty)] enum E { #[rpc(status, code = Internal)] A(Status) }";
    assert_eq!(errors_of_error(source), at(status, "A"));
    let source = "#[rpc(crate = getty)] enum E { #[rpc(status)] A(Status), #[rpc(status)] B(Status) }";
    assert_eq!(errors_of_error(source), at("only one variant holds a `Status`", "B"));
    let source = "#[rpc(crate = getty)] enum E { #[rpc(codes = Internal)] A }";
    assert_eq!(errors_of_error(source), at("expected `code = ..`, `status` or `crate = ..`", "codes"));
    let generics = "an error of a method has no generics";
    assert_eq!(errors_of_error("#[rpc(crate = getty)] struct Gone<T>(T);"), at(generics, "<T>"));
    let union = "an error is an enum or a struct";
    assert_eq!(errors_of_error("#[rpc(crate = getty)] union U { a: u8 }"), at(union, "U"));
}

/// What can be a service is, whatever the user calls things.
#[test]
fn arguments_may_have_any_name() {
    let source = "#[service(name = \"a.B\", codec = Own)] pub(crate) trait Room { \
                  async fn r#type(&self, call: &Call, codec: u8) -> Result<u8, Status>; \
                  async fn f(&self, inbound: &mut Receiver<u8>, service: &mut Sender<u8>) -> Result<(), Status>; \
                  async fn g(&self, call: u8, codec: Vec<String>) -> Result<Vec<u8>, Status>; }";
    let file: syn::File = syn::parse2(expand(source).unwrap()).unwrap();
    let names = file.items.iter().filter_map(|item| match item {
        syn::Item::Trait(item) => Some(item.ident.to_string()),
        syn::Item::Struct(item) => Some(item.ident.to_string()),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["Room", "LocalRoom", "RoomGRequest", "RoomService", "LocalRoomService", "RoomClient"]);
}
