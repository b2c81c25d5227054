//! Each type of a crate has a name of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use syn::visit::{self, Visit};

use crate::sources::{Module, crates, is_test};

#[test]
fn a_crate_has_no_two_types_of_one_name() {
    let mut report = String::new();
    for krate in crates() {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, place) in krate.modules.iter().flat_map(types) {
            places.entry(name).or_default().push(place);
        }
        for (name, places) in places.iter().filter(|(_, places)| places.len() > 1) {
            writeln!(report, "{}: {name} at {}", krate.name, places.join(", ")).expect("a string takes it");
        }
    }
    assert!(report.is_empty(), "these types share a name; name each after what it is:\n{report}");
}

/// Returns the names and places of the structs, enums, unions, traits and aliases of a module and of its functions.
fn types(module: &Module) -> Vec<(String, String)> {
    let mut finder = TypeFinder { module, found: Vec::new() };
    module.items.iter().for_each(|item| finder.visit_item(item));
    finder.found
}

struct TypeFinder<'m> {
    module: &'m Module,
    found: Vec<(String, String)>,
}

impl<'a> Visit<'a> for TypeFinder<'_> {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if is_test(item) {
            return;
        }
        let name = match item {
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        if let Some(name) = name {
            let place = format!("{}:{}", self.module.file.display(), name.span().start().line);
            self.found.push((name.to_string(), place));
        }
        visit::visit_item(self, item);
    }
}
