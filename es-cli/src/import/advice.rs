//! What to do about a file that is something else than lines of JSON.

use std::path::Path;

use super::input::Input;
use crate::line::Fault;
use crate::text::quoted;

const GZIP: &[u8] = &[0x1f, 0x8b];

/// Knows how an import is said on a command line.
pub(super) struct Advice {
    store: String,
    /// The file; `None` for standard input.
    file: Option<String>,
}

impl Advice {
    pub(super) fn new(store: &Path, input: &Input) -> Self {
        let word = |path: &Path| quoted(&path.display().to_string());
        Self { store: word(store), file: (!input.is_stdin).then(|| word(&input.name)) }
    }

    /// The fault of the first line, with what to do where the line shows what the file is.
    pub(super) fn on_first(&self, line: &[u8], fault: Fault) -> Fault {
        let text = line.trim_ascii();
        if line.starts_with(GZIP) {
            return Fault::new(format!(
                "expected lines of JSON, found a file of gzip; unpack it: {}",
                self.through("gzip -dc")
            ));
        }
        let (found, take_apart) = match text.first() {
            Some(b'[') => ("a JSON array", self.through("jq -c '.[]'")),
            // NOTE: an object that ends on a later line.
            Some(b'{') if text.len() == 1 => ("one over several lines", self.through("jq -c .")),
            Some(first) if *first != b'{' && text.iter().any(|byte| matches!(byte, b',' | b';' | b'\t')) => {
                let advice = "make an object of each row, as `es import --help` says";
                return Fault::new(format!("expected one JSON object a line, found what looks like CSV; {advice}"));
            }
            _ => return fault,
        };
        Fault::new(format!("expected one JSON object a line, found {found}; bring it into lines: {take_apart}"))
    }

    /// The command that imports what another has made of the file.
    fn through(&self, command: &str) -> String {
        let file = self.file.as_ref().map(|file| format!(" {file}")).unwrap_or_default();
        format!("{command}{file} | es --store {} import -", self.store)
    }
}
