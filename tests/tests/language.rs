//! Refused words and overlong lines in the Rust and Markdown sources. `CONTRIBUTING.md` describes the style.
//!
//! `ES_LANGUAGE=es-core/src cargo test --test language` checks one directory.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Refused words and phrases, and what to write instead.
///
/// A word is refused everywhere: in comments, documentation, strings and identifiers (`folder_of`, `FolderOf`). `|` separates
/// forms. A phrase is found across lines, too.
const REFUSED: &[(&str, &str)] = &[
    ("behind", "after (a position, a revision), underneath, in the background"),
    ("mend|mends|mended|mending", "fix, repair"),
    ("anew|afresh", "again, from scratch, rebuild"),
    ("machinery", "infrastructure"),
    ("stand in|stands in|stood in|standing in", "is stored in, is in"),
    ("stand at|stands at|stood at|standing at", "is documented in, is at"),
    ("what is hidden", "hidden events"),
    ("annotation|annotations", "metadata"),
    ("whoever", "the caller, the reader, the writer, the follower"),
    ("in earnest", "production"),
    ("come to nothing|comes to nothing|came to nothing", "has no effect"),
    ("come by|comes by|came by", "gets"),
    ("the house", "the shop"),
    ("the business", "the domain"),
    ("without a word|in silence", "silently"),
    ("told from|told apart", "distinguished from"),
    ("folder|folders", "directory"),
    ("taken in", "applied"),
    ("hand on|hands on|handed on|handing on", "forwarded, passed on"),
    ("led to", "produced"),
    ("already so", "unchanged"),
    ("gave up", "what happened: timed out, was stopped"),
    ("verb error", "admin error"),
    ("take room|takes room|took room", "uses disk space, uses memory"),
    ("mounted for reading", "read-only"),
    ("say so|says so|said so", "the name of the error, the field or the message"),
];

/// The tag of an ordinary comment. Only `SAFETY:` and `ORDER:` are tags.
const REFUSED_TAG: &str = concat!("NOTE", ":");

const MAX_COLUMNS: usize = 120;

/// Exempt files: the history, which has old names and lines, and this list.
const EXEMPT: &[&str] = &["CHANGELOG.md", "tests/tests/language.rs"];

/// A place in a source that breaks a rule.
struct Violation {
    line: usize,
    message: String,
}

#[test]
fn sources_have_no_refused_word_and_no_overlong_line() {
    let only = std::env::var("ES_LANGUAGE").ok();
    let is_checked = |path: &Path| only.as_ref().is_none_or(|directory| path.starts_with(directory));
    let mut report = String::new();
    let mut count = 0;
    for (path, text) in sources().into_iter().filter(|(path, _)| is_checked(path)) {
        for violation in violations(&path, &text) {
            count += 1;
            writeln!(report, "{}:{}: {}", path.display(), violation.line, violation.message)
                .expect("writes to a string");
        }
    }
    assert!(count == 0, "{count} places break the rules of language:\n{report}");
}

#[test]
fn words_are_found_in_identifiers_and_phrases_across_lines() {
    let found = |text: &str| -> Vec<String> {
        let found = refused_words(text).into_iter();
        found
            .map(|violation| format!("{}: {}", violation.line, violation.message.split('"').nth(1).unwrap_or("")))
            .collect()
    };
    assert_eq!(found("let a = 1;\nfn open_folder() {}"), ["2: folder"]);
    assert_eq!(found("struct MachineryError; // Behind it."), ["1: machinery", "1: behind"]);
    assert_eq!(found("/// The value stands\n    /// in the record."), ["1: stands in"]);
    assert_eq!(found("const THE_HOUSE: &str = \"in\\\n silence\";"), ["1: the house", "1: in silence"]);
    assert_eq!(found("amendment, folders2, stands. In the record; led(to)"), Vec::<String>::new());
}

#[test]
fn tables_and_links_may_be_long() {
    let long = "a ".repeat(100);
    let lines = |path: &str, text: &str| overlong_lines(Path::new(path), text).len();
    assert_eq!(lines("a.rs", &format!("// {long}")), 1);
    assert_eq!(lines("a.md", &format!("{long}\n{long}")), 2);
    assert_eq!(lines("a.md", &format!("| {long} |\n[a](b){long}\nhttps://a {long}")), 0);
    assert_eq!(lines("a.rs", &format!("/// | {long} |\n// https://a {long}")), 0);
    assert_eq!(lines("a.rs", &"ü".repeat(120)), 0);
}

/// Returns the Rust and Markdown files of the repository, with their paths below its root.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut sources = Vec::new();
    collect_sources(root, Path::new(""), &mut sources);
    assert!(sources.len() > 100, "found only {} sources in {}", sources.len(), root.display());
    sources
}

fn collect_sources(root: &Path, directory: &Path, sources: &mut Vec<(PathBuf, String)>) {
    let entries = fs::read_dir(root.join(directory)).expect("a directory of the repository");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(&name);
        if root.join(&path).is_dir() {
            let is_generated =
                ["target", "fixtures", "artifacts", "corpus", "coverage"].iter().any(|other| name == *other);
            if !is_generated && !name.to_string_lossy().starts_with(".git") {
                collect_sources(root, &path, sources);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            let text = fs::read_to_string(root.join(&path)).expect("sources are UTF-8");
            sources.push((path, text));
        }
    }
}

fn violations(path: &Path, text: &str) -> Vec<Violation> {
    if EXEMPT.iter().any(|exempt| path == Path::new(exempt)) {
        return Vec::new();
    }
    let mut violations = overlong_lines(path, text);
    violations.extend(refused_words(text));
    violations.sort_by_key(|violation| violation.line);
    violations
}

/// Finds lines that are too long. Tables and links cannot be wrapped.
fn overlong_lines(path: &Path, text: &str) -> Vec<Violation> {
    let is_markdown = path.extension().is_some_and(|extension| extension == "md");
    let mut violations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        let content = line.trim_start().trim_start_matches(['/', '!']).trim_start();
        let has_link = line.contains("://") || is_markdown && line.contains("](");
        if columns > MAX_COLUMNS && !content.starts_with('|') && !has_link {
            let message = format!("{columns} columns: wrap the line at {MAX_COLUMNS}");
            violations.push(Violation { line: index + 1, message });
        }
    }
    violations
}

fn refused_words(text: &str) -> Vec<Violation> {
    let words = words(text);
    let mut violations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.contains(REFUSED_TAG) {
            let message = format!("\"{REFUSED_TAG}\": write an ordinary comment without a tag");
            violations.push(Violation { line: index + 1, message });
        }
    }
    let phrases = phrases();
    for start in 0..words.len() {
        for (phrase, instead) in &phrases {
            if phrase[0] == words[start].text && matches(phrase, &words[start..]) {
                let message = format!("\"{}\": write {instead}", phrase.join(" "));
                violations.push(Violation { line: words[start].line, message });
            }
        }
    }
    violations
}

/// Returns each refused form as its words, with what to write instead.
fn phrases() -> Vec<(Vec<&'static str>, &'static str)> {
    let forms = REFUSED.iter().flat_map(|(forms, instead)| forms.split('|').map(move |form| (form, *instead)));
    forms.map(|(form, instead)| (form.split(' ').collect(), instead)).collect()
}

fn matches(phrase: &[&str], words: &[Word]) -> bool {
    let Some(words) = words.get(..phrase.len()) else { return false };
    let is_equal = phrase.iter().zip(words).all(|(expected, word)| *expected == word.text);
    is_equal && words[1..].iter().all(|word| word.continues)
}

/// A word of a source: of a text, or a part of an identifier.
struct Word {
    /// In lower case.
    text: String,
    line: usize,
    /// Whether only spaces, comment markers or the boundary of an identifier's part separate it from the word before.
    continues: bool,
}

/// Splits a source into words, and identifiers into their parts: `open_folder`, `OpenFolder`.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut line, mut continues, mut previous) = (1, true, ' ');
    for c in text.chars() {
        if c.is_alphanumeric() {
            let starts_part = previous.is_lowercase() && c.is_uppercase();
            if !previous.is_alphanumeric() || starts_part {
                words.push(Word { text: String::new(), line, continues });
                continues = true;
            }
            words.last_mut().expect("a word has begun").text.extend(c.to_lowercase());
        } else {
            continues &= c.is_whitespace() || "/!_*#>\\`".contains(c);
        }
        line += usize::from(c == '\n');
        previous = c;
    }
    words
}
