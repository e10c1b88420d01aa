//! Listeners that wrap other listeners forward every callback.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{ExprMethodCall, File, ImplItem, Item, ItemImpl, TraitItem, Type};

/// The callbacks of `trait Listener` in `source`.
fn callbacks(source: &str) -> BTreeSet<String> {
    let file: File = syn::parse_str(source).unwrap();
    let items = file.items.into_iter().find_map(|item| match item {
        Item::Trait(found) if found.ident == "Listener" => Some(found.items),
        _ => None,
    });
    let names = items.expect("the trait is in this file").into_iter().filter_map(|item| match item {
        TraitItem::Fn(callback) => Some(callback.sig.ident.to_string()),
        _ => None,
    });
    names.collect()
}

/// A listener that wraps another one: some of its callbacks call their namesakes.
#[derive(Debug)]
struct Wrapper {
    name: String,
    forwards: BTreeSet<String>,
}

/// Finds out whether a callback calls its namesake.
struct Namesake {
    callback: String,
    called: bool,
}

impl<'a> Visit<'a> for Namesake {
    fn visit_expr_method_call(&mut self, call: &'a ExprMethodCall) {
        self.called |= call.method == self.callback;
        visit::visit_expr_method_call(self, call);
    }
}

struct Wrappers(Vec<Wrapper>);

impl<'a> Visit<'a> for Wrappers {
    fn visit_item_impl(&mut self, found: &'a ItemImpl) {
        let of_listener = found.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        if of_listener.is_none_or(|segment| segment.ident != "Listener") {
            return;
        }
        let forwards = found.items.iter().filter_map(|item| {
            let ImplItem::Fn(callback) = item else { return None };
            let mut namesake = Namesake { callback: callback.sig.ident.to_string(), called: false };
            namesake.visit_block(&callback.block);
            namesake.called.then_some(namesake.callback)
        });
        let forwards: BTreeSet<String> = forwards.collect();
        if !forwards.is_empty() {
            let name = match &*found.self_ty {
                Type::Path(path) => path.path.segments.last().unwrap().ident.to_string(),
                _ => "?".to_owned(),
            };
            self.0.push(Wrapper { name, forwards });
        }
    }
}

/// The wrappers in `source`.
fn wrappers(source: &str) -> Vec<Wrapper> {
    let mut wrappers = Wrappers(Vec::new());
    wrappers.visit_file(&syn::parse_str(source).unwrap());
    wrappers.0
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_wrapper_forwards_every_callback() {
    let adapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters");
    let callbacks = callbacks(&fs::read_to_string(adapters.join("driver/src/session/listener.rs")).unwrap());
    let mut files = Vec::new();
    sources(&adapters, &mut files);
    let mut seen = BTreeSet::new();
    for file in files {
        for wrapper in wrappers(&fs::read_to_string(&file).unwrap()) {
            let missing: Vec<&String> = callbacks.difference(&wrapper.forwards).collect();
            assert!(missing.is_empty(), "{} in {} misses {missing:?}", wrapper.name, file.display());
            seen.insert(wrapper.name);
        }
    }
    assert!(seen.contains("PathListener"), "the search for wrappers misses some: {seen:?}");
}

#[test]
fn a_callback_that_is_not_forwarded_is_found() {
    let wrapper = r#"
        impl<M, L: Listener<M>> Listener<M> for Wrapper<L> {
            fn on_message(&mut self, cx: Cx, message: M::In) {
                if let Some(listener) = &mut self.0 {
                    listener.on_message(cx, message);
                }
            }
            fn on_messages(&mut self, cx: Cx) {
                self.0.on_message(cx, message);
            }
            fn on_cron(&mut self, cx: Cx) {}
        }
        impl Listener<M> for Echo {
            fn on_message(&mut self, cx: Cx, message: M::In) {
                cx.send(message);
            }
        }
    "#;
    let found = wrappers(wrapper);
    let forwards: Vec<&str> =
        found.iter().flat_map(|wrapper| &wrapper.forwards).map(String::as_str).collect();
    assert_eq!((found.len(), forwards), (1, vec!["on_message"]), "{found:?}");
}
