//! The documents: their sizes, the links between them, and the code that they repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the Markdown files whose links are checked, relative to the root.
fn documents() -> Vec<String> {
    let mut found: Vec<String> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(ToOwned::to_owned).to_vec();
    for directory in ["docs", "docs/adr", "docs/book/src", "examples/order-service"] {
        for entry in std::fs::read_dir(root().join(directory)).expect("the directory exists") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                found.push(format!("{directory}/{name}"));
            }
        }
    }
    found.sort();
    found
}

/// Returns the text without code blocks and code spans.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    });
    let lines: Vec<&str> = lines.collect();
    lines.join("\n").split('`').step_by(2).collect()
}

/// Returns the targets of the links of a text.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// Returns the anchors of the headings of a text, as GitHub and mdBook derive them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn every_link_between_documents_resolves() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(path, at)| (path, Some(at)));
            let directory = root().join(&document).parent().expect("a file is in a directory").to_owned();
            let target = if path.is_empty() { root().join(&document) } else { directory.join(path) };
            let is_found = target.exists()
                && anchor.is_none_or(|anchor| {
                    std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor))
                });
            if !is_found {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(count > 100, "expected more than 100 links, found {count}");
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn readme_and_architecture_stay_short() {
    for (document, limit) in [("README.md", 6_000), ("ARCHITECTURE.md", 8_000)] {
        let found = read(document).len();
        assert!(found <= limit, "{document}: expected at most {limit} bytes, found {found}; move details to the book");
    }
}

#[test]
fn every_decision_record_has_its_sections_and_fits_on_a_page() {
    let index = read("docs/adr/README.md");
    let mut numbers = BTreeSet::new();
    for document in documents().iter().filter(|document| document.starts_with("docs/adr/0")) {
        let name = document.strip_prefix("docs/adr/").expect("it has the prefix");
        let (number, _) = name.split_once('-').expect("NNNN-title.md");
        let number: u32 = number.parse().expect("a number");
        assert!(numbers.insert(number), "two records have the number {number}");
        let text = read(document);
        assert!(text.starts_with(&format!("# {number}. ")), "{name}: expected the number in the title");
        for section in ["## Context", "## Decision", "## Consequences"] {
            assert!(text.lines().any(|line| line == section), "{name}: expected the section {section:?}");
        }
        assert!(text.lines().count() <= 60, "{name}: expected at most 60 lines; split it or drop details");
        assert!(index.contains(&format!("]({name})")), "{name} is not in docs/adr/README.md");
    }
    assert_eq!(numbers.last(), Some(&u32::try_from(numbers.len()).expect("few")), "numbers are consecutive");
}

#[test]
fn every_chapter_is_in_the_summary_and_compiled() {
    let summary = read("docs/book/src/SUMMARY.md");
    let compiled = read("examples/guide/src/book.rs");
    let mut blocks = 0;
    for document in documents().iter().filter(|document| document.starts_with("docs/book/src/")) {
        let name = document.strip_prefix("docs/book/src/").expect("it has the prefix");
        let text = read(document);
        let code: Vec<&str> = text.lines().filter(|line| line.starts_with("```rust")).collect();
        blocks += code.len();
        assert!(code.iter().all(|line| !line.contains("ignore")), "{name}: a block is not compiled");
        let is_compiled = compiled.contains(&format!("docs/book/src/{name}\")"));
        assert!(code.is_empty() || is_compiled, "{name} has code and is not in examples/guide/src/book.rs");
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "{name} is not in SUMMARY.md");
    }
    assert!((20..=50).contains(&blocks), "each block costs link time: expected 20 to 50, found {blocks}");
}

/// Returns the code blocks that follow the comment `<!-- quickstart -->`, without their hidden lines.
fn quickstart_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("<!-- quickstart -->\n").skip(1);
    blocks
        .map(|block| {
            let lines = block.lines().skip(1).take_while(|line| *line != "```");
            let shown = lines.filter(|line| !(line.starts_with("# ") || *line == "#"));
            shown.collect::<Vec<_>>().join("\n")
        })
        .collect()
}

#[test]
fn the_first_chapter_shows_the_code_of_the_quickstart() {
    let program = read("examples/quickstart/src/main.rs");
    let blocks = quickstart_blocks(&read("docs/book/src/getting-started.md"));
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        for part in parts(&block) {
            assert!(program.contains(&part), "examples/quickstart/src/main.rs does not have\n{part}");
        }
    }
}

/// Splits code at empty lines between items, so that a chapter may leave items out.
fn parts(code: &str) -> Vec<String> {
    code.split("\n\n").map(|part| part.trim_end().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[test]
fn the_architecture_names_every_crate_and_every_module_of_es_core() {
    let text = read("ARCHITECTURE.md");
    let manifest = read("Cargo.toml");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    let mut packages = BTreeMap::new();
    for member in members.split('"').skip(1).step_by(2) {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).expect("a package has a name");
        packages.insert(name.trim_end_matches('"').to_owned(), member.to_owned());
    }
    for (package, member) in packages {
        assert!(text.contains(&format!("`{package}`")), "ARCHITECTURE.md does not name {package} ({member})");
    }
    let modules = read("es-core/src/lib.rs");
    let modules = modules.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let listed = modules.map(|module| module.trim_end_matches(';')).filter(|it| !["prelude", "__private"].contains(it));
    for module in listed {
        assert!(text.contains(&format!("| `{module}` |")), "ARCHITECTURE.md has no row for the module {module}");
    }
}

/// Returns the tests that the table rows of a text name, as pairs of a file and a function.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter_map(|span| span.split_once("::")).collect()
}

/// `xtask` checks the mutants of the same document.
#[test]
fn every_promise_has_tests_that_exist() {
    let text = read("docs/guarantees.md");
    let named = named_tests(&text);
    assert!(named.len() > 50, "expected more than 50 tests, found {}", named.len());
    let mut missing = Vec::new();
    for (file, function) in named {
        // A case of the conformance suite has no attribute: a macro makes a test of it.
        let is_case = file.starts_with("es-core/src/testing/conformance/");
        let source = read(file);
        let definition = format!("fn {function}(");
        let is_test = source.match_indices(&definition).any(|(at, _)| {
            let attributes = source[..at].rsplit_once("\n\n").map_or(&source[..at], |(_, item)| item);
            is_case || ["#[test]", "#[tokio::test"].iter().any(|attribute| attributes.contains(attribute))
        });
        if !is_test {
            missing.push(format!("{file}::{function}"));
        }
    }
    assert!(missing.is_empty(), "docs/guarantees.md names tests that do not exist:\n{}", missing.join("\n"));
}

/// Each capability that the README lists and each chapter of the book makes promises.
#[test]
fn the_guarantees_cover_the_readme_and_the_book() {
    let (text, readme) = (read("docs/guarantees.md"), read("README.md"));
    let headings: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let capabilities = readme.lines().filter_map(|line| line.strip_prefix("- **")?.split_once(".**"));
    let capabilities: Vec<&str> = capabilities.map(|(capability, _)| capability).collect();
    assert!(capabilities.len() >= 8, "{capabilities:?}");
    let uncovered = capabilities.iter().filter(|capability| !headings.contains(**capability));
    assert_eq!(uncovered.collect::<Vec<_>>(), [&""; 0], "expected a section for each capability of the README");
    let chapters = [
        "aggregates",
        "events",
        "commands",
        "projections",
        "reactors",
        "fulfilment",
        "operations",
        "production",
        "erasure",
        "stores",
    ];
    for chapter in chapters {
        assert!(text.contains(&format!("](book/src/{chapter}.md#")), "no promise of the chapter {chapter}");
    }
}

#[test]
fn links_and_anchors_are_parsed_outside_of_code() {
    let text = "# One: two\n[a](b.md#c) `[d](e)`\n```text\n[f](g)\n# no heading\n```\n[h](i.md)\n## How do I go?";
    assert_eq!(links(text), ["b.md#c", "i.md"]);
    let expected = ["one-two", "how-do-i-go"].map(ToOwned::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}
