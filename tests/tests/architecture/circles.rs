//! Circles between the modules of a crate, and the arrows between the modules of es-core.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::sources::{Crate, Module, WrittenPath, crates, paths};

/// The modules whose children may use each other: the vocabulary of the log, and the commands of a repository.
const ONE_UNIT: [&str; 2] = ["es_core::model::", "es_core::aggregate::repository::"];

/// The modules of es-core, and the modules that each may use. `prelude` and `testing` may use all.
const FLOOR_PLAN: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("schema", &["model"]),
    ("retention", &["model"]),
    ("store", &["model", "schema", "retention"]),
    ("aggregate", &["model", "schema", "retention", "store"]),
    ("consumer", &["model", "schema", "retention", "store", "aggregate"]),
    ("projection", &["model", "schema", "retention", "store", "aggregate", "consumer"]),
    ("service", &["model", "schema", "store", "aggregate", "consumer", "projection"]),
    ("__private", &["model", "schema", "store", "aggregate", "projection"]),
];

/// Which module uses which other one, and where. Both are children of one module.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

#[test]
fn modules_of_a_crate_form_no_circle() {
    let mut report = String::new();
    for krate in crates() {
        let arrows = arrows(&krate);
        for ((from, to), places) in in_circles(&arrows) {
            if ONE_UNIT.iter().any(|unit| format!("{}::{from}", krate.name).starts_with(unit)) {
                continue;
            }
            let places: Vec<&str> = places.iter().map(String::as_str).take(4).collect();
            writeln!(report, "{}: {from} -> {to} at {}", krate.name, places.join(", ")).expect("a string takes it");
        }
    }
    assert!(report.is_empty(), "these modules use each other; move what both use below them:\n{report}");
}

#[test]
fn modules_of_es_core_use_only_the_modules_below_them() {
    let krate = crates().into_iter().find(|krate| krate.name == "es_core").expect("es-core is parsed");
    let arrows = arrows(&krate);
    let mut report = String::new();
    for (module, below) in FLOOR_PLAN {
        let wrong = arrows.iter().filter(|((from, to), _)| from == module && !below.contains(&to.as_str()));
        for ((from, to), places) in wrong {
            let first = places.first().map_or("", String::as_str);
            writeln!(report, "{from} -> {to} at {first}").expect("a string takes it");
        }
    }
    assert!(report.is_empty(), "the floor plan of es-core has no such arrow:\n{report}");
    for module in krate.modules.iter().filter(|module| module.path.len() == 1) {
        let name = module.path[0].as_str();
        let is_placed = FLOOR_PLAN.iter().any(|(placed, _)| *placed == name);
        assert!(is_placed || ["prelude", "testing"].contains(&name), "module {name} has no place in the floor plan");
    }
}

/// Returns the arrows of a crate, each between two modules of one parent, with their full names.
fn arrows(krate: &Crate) -> Arrows {
    let modules: BTreeMap<&[String], &Module> =
        krate.modules.iter().map(|module| (module.path.as_slice(), module)).collect();
    let exports: BTreeMap<&[String], BTreeMap<String, String>> =
        modules.iter().map(|(path, module)| (*path, exports(module))).collect();
    let mut arrows = Arrows::new();
    for module in &krate.modules {
        for written in paths(module) {
            let Some(target) = absolute(module, &written) else { continue };
            let depth = module.path.iter().zip(&target).take_while(|(from, to)| from == to).count();
            let (parent, Some(from), Some(name)) = (&module.path[..depth], module.path.get(depth), target.get(depth))
            else {
                continue;
            };
            let child = |name: &String| [parent, std::slice::from_ref(name)].concat();
            let to = if modules.contains_key(child(name).as_slice()) { Some(name) } else { exports[parent].get(name) };
            let Some(to) = to.filter(|to| *to != from) else { continue };
            let place = format!("{}:{}", module.file.display(), written.line);
            arrows.entry((child(from).join("::"), child(to).join("::"))).or_default().insert(place);
        }
    }
    arrows
}

/// Returns the names that a module re-exports, and the child that each is from.
fn exports(module: &Module) -> BTreeMap<String, String> {
    let imports = paths(module).into_iter().filter_map(|written| {
        let target = absolute(module, &written).unwrap_or_else(|| [module.path.as_slice(), &written.names].concat());
        let below = target.strip_prefix(module.path.as_slice())?;
        (below.len() > 1).then(|| (below[below.len() - 1].clone(), below[0].clone()))
    });
    imports.collect()
}

/// Returns the path from the root of the crate; `None` for a path that does not begin with `crate`, `self` or
/// `super`.
fn absolute(module: &Module, written: &WrittenPath) -> Option<Vec<String>> {
    let (first, rest) = written.names.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module.path.as_slice(), rest].concat()),
        "super" => {
            let ups = written.names.iter().take_while(|name| *name == "super").count();
            let kept = module.path.len().checked_sub(ups)?;
            Some([&module.path[..kept], &written.names[ups..]].concat())
        }
        _ => None,
    }
}

/// Returns the arrows that are part of a circle.
fn in_circles(arrows: &Arrows) -> impl Iterator<Item = (&(String, String), &BTreeSet<String>)> {
    arrows.iter().filter(|((from, to), _)| reachable(arrows, to).contains(from.as_str()))
}

fn reachable<'a>(arrows: &'a Arrows, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(module) = pending.pop() {
        if seen.insert(module) {
            pending.extend(arrows.keys().filter(|(from, _)| from == module).map(|(_, to)| to.as_str()));
        }
    }
    seen
}
