//! The sources of the workspace, parsed: the modules of each crate, without its tests.

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Returns the directory of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The root files of the crates that the checks of this binary parse.
const ROOT_FILES: [(&str, &str); 23] = [
    ("es_core", "es-core/src/lib.rs"),
    ("es_macros", "es-macros/src/lib.rs"),
    ("es_log", "es-log/src/lib.rs"),
    ("es_rocksdb", "es-rocksdb/src/lib.rs"),
    ("es_personal", "es-personal/src/lib.rs"),
    ("es_crdt", "es-crdt/src/lib.rs"),
    ("es_replication", "es-replication/src/lib.rs"),
    ("es_saga", "es-saga/src/lib.rs"),
    ("es_transaction", "es-transaction/src/lib.rs"),
    ("es_node", "es-node/src/lib.rs"),
    ("es_http", "es-http/src/lib.rs"),
    ("es_cli", "es-cli/src/lib.rs"),
    ("es_tool", "es-tool/src/lib.rs"),
    ("es_bench", "es-bench/src/lib.rs"),
    ("es_bench_peers", "es-bench/peers/src/main.rs"),
    ("order_service", "examples/order-service/src/lib.rs"),
    ("outbox", "examples/outbox/src/lib.rs"),
    ("sqlite_projection", "examples/sqlite-projection/src/lib.rs"),
    ("es_tests", "tests/src/lib.rs"),
    ("es_decoding", "tests/decoding/src/lib.rs"),
    ("xtask", "xtask/src/main.rs"),
    ("outbox_main", "examples/outbox/src/main.rs"),
    ("sqlite_projection_main", "examples/sqlite-projection/src/main.rs"),
];

/// A crate of the workspace.
pub(crate) struct Crate {
    /// Its name in paths.
    pub(crate) name: &'static str,
    /// The root module first, then each module before its children.
    pub(crate) modules: Vec<Module>,
}

/// A module: a file, or an inline module of one.
pub(crate) struct Module {
    /// The names from the root of the crate down to this module; empty for the root.
    pub(crate) path: Vec<String>,
    /// Its file, relative to the workspace.
    pub(crate) file: PathBuf,
    /// Whether it and all modules around it are `pub` and documented.
    pub(crate) is_public: bool,
    /// Its items without modules and without tests.
    pub(crate) items: Vec<syn::Item>,
}

/// Parses every crate.
pub(crate) fn crates() -> Vec<Crate> {
    let parse = |(name, file): (&'static str, &str)| Crate { name, modules: parse(Path::new(file)) };
    ROOT_FILES.into_iter().map(parse).collect()
}

fn parse(root_file: &Path) -> Vec<Module> {
    let mut modules = Vec::new();
    let directory = root_file.parent().expect("a file is in a directory");
    parse_file(&mut modules, &[], true, root_file, directory);
    modules
}

/// Parses a file, and the modules that it declares: `children` is the directory of their files.
fn parse_file(modules: &mut Vec<Module>, path: &[String], is_public: bool, file: &Path, children: &Path) {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    add_module(modules, path, is_public, file, children, parsed.items);
}

fn add_module(
    modules: &mut Vec<Module>,
    path: &[String],
    is_public: bool,
    file: &Path,
    children: &Path,
    items: Vec<syn::Item>,
) {
    let (declared, items): (Vec<_>, Vec<_>) =
        items.into_iter().filter(|item| !is_test(item)).partition(|item| matches!(item, syn::Item::Mod(_)));
    modules.push(Module { path: path.to_vec(), file: file.to_owned(), is_public, items });
    for item in declared {
        let syn::Item::Mod(module) = item else { continue };
        let name = module.ident.to_string();
        let mut path = path.to_vec();
        path.push(name.clone());
        let is_public = is_public && is_documented(&module.vis, &module.attrs);
        if let Some((_, items)) = module.content {
            add_module(modules, &path, is_public, file, &children.join(&name), items);
            continue;
        }
        if let Some(path_of_file) = module.attrs.iter().find_map(path_attribute) {
            let directory = file.parent().expect("a file is in a directory");
            let file = directory.join(path_of_file);
            let children = file.parent().expect("a file is in a directory");
            parse_file(modules, &path, is_public, &file, children);
        } else {
            parse_file(modules, &path, is_public, &file_of(&name, children), &children.join(&name));
        }
    }
}

/// Whether an item is `pub` and not `#[doc(hidden)]`.
pub(crate) fn is_documented(visibility: &syn::Visibility, attributes: &[syn::Attribute]) -> bool {
    let is_hidden = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    };
    matches!(visibility, syn::Visibility::Public(_)) && !attributes.iter().any(is_hidden)
}

fn file_of(name: &str, children: &Path) -> PathBuf {
    let flat = children.join(format!("{name}.rs"));
    if root().join(&flat).is_file() { flat } else { children.join(name).join("mod.rs") }
}

fn path_attribute(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(value), .. }) if pair.path.is_ident("path") => {
            Some(value.value())
        }
        _ => None,
    }
}

/// Whether an item exists in tests only.
pub(crate) fn is_test(item: &syn::Item) -> bool {
    is_for_tests(attributes(item))
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::NameValue(_) => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// A path as it is written, and the line of its first name.
pub(crate) struct WrittenPath {
    pub(crate) names: Vec<String>,
    pub(crate) line: usize,
}

/// Returns the paths of a module: of imports, of code, and within macro calls. Doc comments have none.
pub(crate) fn paths(module: &Module) -> Vec<WrittenPath> {
    let mut finder = PathFinder { found: Vec::new() };
    module.items.iter().for_each(|item| finder.visit_item(item));
    finder.found
}

struct PathFinder {
    found: Vec<WrittenPath>,
}

impl PathFinder {
    fn add_imports(&mut self, before: &[String], line: usize, tree: &syn::UseTree) {
        let name = match tree {
            syn::UseTree::Path(path) => path.ident.to_string(),
            syn::UseTree::Name(name) => name.ident.to_string(),
            syn::UseTree::Rename(rename) => rename.ident.to_string(),
            syn::UseTree::Glob(_) => "*".to_owned(),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_imports(before, line, tree));
                return;
            }
        };
        let names: Vec<String> = before.iter().cloned().chain([name]).collect();
        match tree {
            syn::UseTree::Path(path) => self.add_imports(&names, line, &path.tree),
            _ => self.found.push(WrittenPath { names, line }),
        }
    }

    /// Finds paths in the tokens of a macro call, where only names and `::` are certain.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut index = 0;
        while index < tokens.len() {
            if let TokenTree::Group(group) = &tokens[index] {
                self.add_tokens(group.stream());
            }
            let mut names = Vec::new();
            let line = tokens[index].span().start().line;
            while let Some(TokenTree::Ident(ident)) = tokens.get(index) {
                names.push(ident.to_string());
                let separated = [index + 1, index + 2]
                    .iter()
                    .all(|&at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':'));
                if !separated {
                    break;
                }
                index += 3;
            }
            if names.len() > 1 {
                self.found.push(WrittenPath { names, line });
            }
            index += 1;
        }
    }
}

impl<'a> Visit<'a> for PathFinder {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.add_imports(&[], item.use_token.span.start().line, &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.found.push(WrittenPath { names, line });
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}

    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_item(&mut self, item: &'a syn::Item) {
        if !is_test(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}
