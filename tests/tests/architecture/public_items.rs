//! The public items of es-core, compared with a list, so that a new one is a decision.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{crates, is_documented, root};

const LIST: &str = "tests/tests/architecture/public_items.txt";

/// The environment variable that has the list written.
const UPDATE: &str = "ES_UPDATE_DOCS";

/// Items that only the crates of the project and their tests use.
const INTERNAL: [&str; 20] = [
    "apply_events",
    "Build",
    "check_name",
    "checkpoint",
    "checkpoint_key",
    "checkpoint_prefix",
    "checkpoints_table",
    "decide",
    "Executing",
    "Generations",
    "generations_table",
    "KnownNames",
    "MAX_WAVES",
    "partition_of",
    "Place",
    "remove_generation",
    "SnapshotHeader",
    "table",
    "view_tables",
    "Wave",
];

#[test]
fn public_items_of_es_core_are_listed() {
    let found = render(&public_items());
    let file = root().join(LIST);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, &found).expect("the list is written");
    }
    let listed = std::fs::read_to_string(&file).expect("the list is read");
    assert!(
        listed == found,
        "the public items of es-core differ from {LIST}. Make a new item `pub(crate)`, move it to `store::implement` \
         if only implementers of stores need it, or run this test with {UPDATE}=1 and commit the list\n{}",
        difference(&listed, &found)
    );
}

#[test]
fn internal_items_of_es_core_are_hidden() {
    for (module, names) in public_items() {
        for name in INTERNAL {
            assert!(!names.contains(name), "{name} is public in {module}");
        }
    }
}

/// Returns the names of the documented items and re-exports of each public module. Items that a `macro_rules!` macro
/// declares are not seen.
fn public_items() -> BTreeMap<String, BTreeSet<String>> {
    let krate = crates().into_iter().find(|krate| krate.name == "es_core").expect("es-core is parsed");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in &krate.modules {
        let names = found.entry(path_of(&module.path)).or_default();
        if module.is_public {
            module.items.iter().for_each(|item| add_names(names, item));
        }
        let macros = module.items.iter().filter_map(exported_macro);
        found.entry(path_of(&[])).or_default().extend(macros);
    }
    found.retain(|_, names| !names.is_empty());
    found
}

fn path_of(path: &[String]) -> String {
    [&["es_core".to_owned()], path].concat().join("::")
}

fn add_names(names: &mut BTreeSet<String>, item: &syn::Item) {
    let (visibility, attributes, name) = match item {
        syn::Item::Const(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Enum(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Fn(item) => (&item.vis, &item.attrs, &item.sig.ident),
        syn::Item::Static(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Struct(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Trait(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Type(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Union(item) => (&item.vis, &item.attrs, &item.ident),
        syn::Item::Use(item) if is_documented(&item.vis, &item.attrs) => return add_imports(names, &item.tree),
        _ => return,
    };
    if is_documented(visibility, attributes) {
        names.insert(name.to_string());
    }
}

fn add_imports(names: &mut BTreeSet<String>, tree: &syn::UseTree) {
    match tree {
        syn::UseTree::Path(path) => add_imports(names, &path.tree),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| add_imports(names, tree)),
        syn::UseTree::Name(name) => drop(names.insert(name.ident.to_string())),
        syn::UseTree::Rename(rename) => drop(names.insert(rename.rename.to_string())),
        syn::UseTree::Glob(_) => panic!("a glob re-export hides which items are public: name them"),
    }
}

/// Returns the name of a documented macro that users can call.
fn exported_macro(item: &syn::Item) -> Option<String> {
    let syn::Item::Macro(item) = item else { return None };
    let public: syn::Visibility = syn::parse_quote!(pub);
    let is_exported = item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
    item.ident.as_ref().filter(|_| is_exported && is_documented(&public, &item.attrs)).map(ToString::to_string)
}

fn render(items: &BTreeMap<String, BTreeSet<String>>) -> String {
    let distinct: BTreeSet<&String> = items.values().flatten().collect();
    let mut text = format!(
        "Public items of es-core by module, re-exports included. The test `architecture` compares this list with the \
         sources.\n\n\
         {} names, {} of them at the root\n",
        distinct.len(),
        items[&path_of(&[])].len()
    );
    for (module, names) in items {
        text.push_str(&format!("\n{module} ({})\n", names.len()));
        names.iter().for_each(|name| text.push_str(&format!("    {name}\n")));
    }
    text
}

/// Returns the lines that only one of the texts has.
fn difference(listed: &str, found: &str) -> String {
    let only = |sign: char, of: &str, other: &str| -> String {
        let other: BTreeSet<&str> = other.lines().collect();
        of.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    only('-', listed, found) + &only('+', found, listed)
}
