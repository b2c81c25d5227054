//! The mutants: known bugs that are put back on purpose.
//!
//! `xtask/mutants.toml` has them, `docs/guarantees.md` names the promises that they break.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;

/// The file with the mutants, relative to the root of the workspace.
pub(crate) const LIST: &str = "xtask/mutants.toml";

/// A change of one source that breaks a promise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// The unique name, by which `docs/guarantees.md` refers to it.
    pub(crate) id: String,
    /// The source, relative to the root of the workspace.
    pub(crate) file: String,
    /// The text to replace, which occurs exactly once in the source.
    pub(crate) original: String,
    /// The text that takes its place.
    pub(crate) replacement: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

impl Mutant {
    /// Reads all mutants of a workspace, sorted by source, so that neighbours compile the same crate again.
    pub(crate) fn read_all(root: &Path) -> Result<Vec<Self>, Failure> {
        let path = root.join(LIST);
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, &error))?;
        let mut mutants = parse(&text)?;
        mutants.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(mutants)
    }

    /// Returns the source with the mutant in it.
    ///
    /// # Errors
    /// If the text to replace does not occur exactly once.
    pub(crate) fn apply(&self, source: &str) -> Result<String, String> {
        match source.matches(&self.original).count() {
            1 => Ok(source.replacen(&self.original, &self.replacement, 1)),
            found => {
                let Self { id, file, .. } = self;
                Err(format!("mutant {id}: expected its text once in {file}, found it {found} times; update {LIST}"))
            }
        }
    }
}

fn parse(text: &str) -> Result<Vec<Mutant>, Failure> {
    let List { mutant: mutants } =
        toml::from_str(text).map_err(|error| Failure::new(format!("{LIST} is not valid: {error}")))?;
    let mut ids = BTreeSet::new();
    for Mutant { id, original, replacement, .. } in &mutants {
        if !ids.insert(id) {
            return Err(Failure::new(format!("{LIST}: two mutants have the id {id}")));
        }
        if original == replacement {
            return Err(Failure::new(format!("{LIST}: mutant {id} changes nothing")));
        }
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant() -> Mutant {
        let text = |text: &str| text.to_owned();
        Mutant { id: text("a"), file: text("b.rs"), original: text("x < y"), replacement: text("x <= y") }
    }

    #[test]
    fn a_text_that_is_not_there_exactly_once_is_an_error() {
        assert_eq!(mutant().apply("if x < y {}"), Ok("if x <= y {}".to_owned()));
        for (source, found) in [("if x <= y {}", "0 times"), ("x < y && x < y", "2 times")] {
            assert!(mutant().apply(source).is_err_and(|error| error.contains(found)), "{source}");
        }
    }

    #[test]
    fn an_id_is_unique_and_a_mutant_changes_something() {
        let one = "[[mutant]]\nid = 'a'\nfile = 'b.rs'\noriginal = 'x < y'\nreplacement = 'x <= y'\n";
        assert_eq!(parse(one), Ok(vec![mutant()]));
        assert!(parse(&one.repeat(2)).is_err());
        assert!(parse(&one.replace("<=", "<")).is_err());
    }
}
