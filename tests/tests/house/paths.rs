//! Finds the paths in a crate that begin with `crate`, `super` or `self`: in imports, in code, and in the
//! tokens of macros. Attributes and code only for tests do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Token, UseTree};

/// The names of modules from `crate` on, with the imported name at the end.
pub type Names = Vec<String>;

/// A path, and the module that it stands in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: Names,
    pub to: Names,
}

/// The imports of one crate from itself.
#[derive(Default)]
pub struct Imports {
    /// The files and folders below `lib.rs`.
    pub rooms: BTreeSet<String>,
    pub all: BTreeSet<Import>,
}

/// Reads `lib.rs` in `src` and every module below it.
pub fn of_crate(src: &Path) -> Imports {
    let mut imports = Imports::default();
    let mut files = vec![Names::new()];
    while let Some(module) = files.pop() {
        let source = match &module[..] {
            [] => fs::read_to_string(src.join("lib.rs")),
            names => {
                let path = src.join(names.join("/"));
                fs::read_to_string(path.with_extension("rs"))
                    .or_else(|_| fs::read_to_string(path.join("mod.rs")))
            }
        };
        let source = source.unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
        if let [room] = &module[..] {
            imports.rooms.insert(room.clone());
        }
        let found = of_file(&source, module);
        imports.all.extend(found.imports);
        files.extend(found.files);
    }
    imports
}

/// Reads one file, which is the module `at`.
pub fn of_file(source: &str, at: Names) -> Finder {
    let file = syn::parse_file(source).unwrap_or_else(|error| panic!("{}: {error}", at.join("::")));
    let mut finder = Finder { at, ..Finder::default() };
    finder.visit_file(&file);
    finder
}

#[derive(Default)]
pub struct Finder {
    /// The module that is being read.
    at: Names,
    pub imports: BTreeSet<Import>,
    /// The modules below it that have files of their own.
    files: Vec<Names>,
}

const STARTS: [&str; 3] = ["crate", "super", "self"];

impl Finder {
    /// Notes `path` if it begins within the crate.
    fn note(&mut self, path: &[String]) {
        if !path.first().is_some_and(|first| STARTS.contains(&&first[..])) {
            return;
        }
        let mut to = self.at.clone();
        for name in path {
            match &name[..] {
                "crate" => to.clear(),
                "super" => drop(to.pop()),
                "self" => {}
                _ => to.push(name.clone()),
            }
        }
        self.imports.insert(Import { from: self.at.clone(), to });
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.note_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.note(before),
            UseTree::Name(name) => self.note(&with(name.ident.to_string())),
            UseTree::Rename(name) => self.note(&with(name.ident.to_string())),
            UseTree::Glob(_) => self.note(&with("*".to_owned())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
        }
    }

    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let mut path = match token {
                TokenTree::Group(group) => {
                    self.note_tokens(group.stream());
                    continue;
                }
                TokenTree::Ident(ident) if STARTS.iter().any(|start| ident == start) => {
                    vec![ident.to_string()]
                }
                _ => continue,
            };
            // A path separator is two tokens.
            while tokens.next_if(is_joint_colon).is_some() {
                tokens.next();
                match tokens.peek() {
                    Some(TokenTree::Ident(name)) => path.push(name.to_string()),
                    Some(TokenTree::Group(group)) => {
                        if let Ok(tree) = syn::parse2(TokenTree::Group(group.clone()).into()) {
                            self.note_tree(&path, &tree);
                        }
                        path.clear();
                        break;
                    }
                    _ => break,
                }
                tokens.next();
            }
            if path.len() > 1 {
                self.note(&path);
            }
        }
    }
}

fn is_joint_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

/// Whether an item with these attributes exists only for tests.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    fn needs_test(condition: &Meta) -> bool {
        match condition {
            Meta::Path(path) => path.is_ident("test"),
            Meta::List(list) if list.path.is_ident("all") => list
                .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .is_ok_and(|conditions| conditions.iter().any(needs_test)),
            _ => false,
        }
    }
    let mut conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.any(|attribute| attribute.parse_args().is_ok_and(|condition| needs_test(&condition)))
}

macro_rules! visit_what_is_not_for_tests {
    ($($visit:ident: $node:ident,)*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if !is_for_tests(&node.attrs) {
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Finder {
    visit_what_is_not_for_tests! {
        visit_item_const: ItemConst,
        visit_item_enum: ItemEnum,
        visit_item_fn: ItemFn,
        visit_item_impl: ItemImpl,
        visit_item_macro: ItemMacro,
        visit_item_static: ItemStatic,
        visit_item_struct: ItemStruct,
        visit_item_trait: ItemTrait,
        visit_item_type: ItemType,
        visit_impl_item_const: ImplItemConst,
        visit_impl_item_fn: ImplItemFn,
        visit_impl_item_type: ImplItemType,
        visit_trait_item_fn: TraitItemFn,
        visit_field: Field,
        visit_variant: Variant,
        visit_local: Local,
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_for_tests(&module.attrs) {
            return;
        }
        self.at.push(module.ident.to_string());
        match module.content {
            Some(_) => visit::visit_item_mod(self, module),
            None => self.files.push(self.at.clone()),
        }
        self.at.pop();
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        if !is_for_tests(&import.attrs) {
            self.note_tree(&[], &import.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.note(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.note_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}

/// The paths in `source`, read as the file of the module `session::state`.
fn paths_in(source: &str) -> Vec<String> {
    let file = of_file(source, vec!["session".to_owned(), "state".to_owned()]);
    file.imports
        .iter()
        .map(|import| format!("{}: {}", import.from.join("::"), import.to.join("::")))
        .collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    assert_eq!(paths_in("use crate::websocket::Close;"), ["session::state: websocket::Close"]);
    assert_eq!(paths_in("pub use super::phase::*;"), ["session::state: session::phase::*"]);
    assert_eq!(paths_in("use super::super::event::Event as E;"), ["session::state: event::Event"]);
    assert_eq!(paths_in("use self::inner::X; mod inner {}"), ["session::state: session::state::inner::X"]);
    assert_eq!(paths_in("fn f() { use crate::http; }"), ["session::state: http"]);
    assert_eq!(paths_in("mod inner { use super::super::X; }"), ["session::state::inner: session::X"]);
    let nested = "use crate::{Config, close::{self, frame::{CloseCode, CloseFrame}}, http::head};";
    assert_eq!(
        paths_in(nested),
        ["Config", "close", "close::frame::CloseCode", "close::frame::CloseFrame", "http::head"]
            .map(|path| format!("session::state: {path}"))
    );
}

#[test]
fn paths_in_code_are_found() {
    let in_a_type = "struct State { close: Option<crate::websocket::Close> }";
    assert_eq!(paths_in(in_a_type), ["session::state: websocket::Close"]);
    let in_an_expression = "fn f() { g(crate::websocket::Close::new()) }";
    assert_eq!(paths_in(in_an_expression), ["session::state: websocket::Close::new"]);
    let in_a_bound = "impl<T: super::super::layer::Layer> T { fn f(&self) { self.g(); Self::h() } }";
    assert_eq!(paths_in(in_a_bound), ["session::state: layer::Layer"]);
    let in_a_trait = "type A = <crate::http::Head as crate::codec::Decoder>::Item;";
    assert_eq!(paths_in(in_a_trait), ["session::state: codec::Decoder::Item", "session::state: http::Head"]);
}

#[test]
fn paths_in_macros_are_found() {
    assert_eq!(paths_in("crate::http::head! {}"), ["session::state: http::head"]);
    let in_a_call = "fn f() { assert!(matches!(self.x, Some(crate::websocket::Close { .. }))); }";
    assert_eq!(paths_in(in_a_call), ["session::state: websocket::Close"]);
    let in_a_rule =
        "macro_rules! m { ($self:ident) => { use super::super::{http, close::Close}; $crate::event::E } }";
    assert_eq!(
        paths_in(in_a_rule),
        ["close::Close", "event::E", "http"].map(|path| format!("session::state: {path}"))
    );
}

#[test]
fn what_is_for_tests_or_opens_nothing_does_not_count() {
    assert_eq!(paths_in("#[cfg(test)] use crate::websocket::Close;"), [""; 0]);
    assert_eq!(paths_in("#[cfg(all(test, unix))] mod tests { use crate::websocket::Close; }"), [""; 0]);
    assert_eq!(paths_in("impl A { #[cfg(test)] fn f() { crate::websocket::f() } }"), [""; 0]);
    assert_eq!(paths_in("#[doc = concat!(crate::a::b!())] pub(in crate::session) struct A;"), [""; 0]);
    assert_eq!(paths_in("/// [`Close`](crate::websocket::Close)\npub(crate) fn f() {}"), [""; 0]);
    assert_eq!(paths_in("#[cfg(not(test))] use crate::http;"), ["session::state: http"]);
    assert_eq!(paths_in("#[cfg(any(test, unix))] use crate::http;"), ["session::state: http"]);
}

#[test]
fn files_are_found_but_those_of_tests() {
    let files = of_file("mod a; mod b { mod c; } #[cfg(test)] mod tests;", Names::new()).files;
    assert_eq!(files.iter().map(|names| names.join("/")).collect::<Vec<_>>(), ["a", "b/c"]);
}
