//! Advice for a file that is not JSON Lines.

use std::path::Path;

use es_tool::input::Input;

use crate::text::quoted;
use es_core::schema::line::LineFault;

/// Builds the command that imports a converted file.
pub(super) struct Advice {
    store: String,
    /// The file; `None` for standard input.
    file: Option<String>,
}

impl Advice {
    pub(super) fn new(store: &Path, input: &Input) -> Self {
        let quote = |path: &Path| quoted(&path.display().to_string());
        Self { store: quote(store), file: (!input.is_stdin()).then(|| quote(input.name())) }
    }

    /// Returns the fault of the first line. Names the format of the file, and how to convert it, if the line shows the
    /// format.
    pub(super) fn for_first_line(&self, line: &[u8], fault: LineFault) -> LineFault {
        let text = line.trim_ascii();
        let (found, convert) = match text.first() {
            Some(b'[') => ("a JSON array", self.import_through("jq -c '.[]'")),
            // An object that ends on a later line.
            Some(b'{') if text.len() == 1 => ("an object over several lines", self.import_through("jq -c .")),
            Some(first) if *first != b'{' && text.iter().any(|byte| matches!(byte, b',' | b';' | b'\t')) => {
                let advice = "convert each row to an object as described in `es import --help`";
                return LineFault::new(format!("expected one JSON object per line, found CSV; {advice}"));
            }
            _ => return fault,
        };
        LineFault::new(format!("expected one JSON object per line, found {found}; convert it: {convert}"))
    }

    /// Returns the command that converts the file and imports the result.
    fn import_through(&self, command: &str) -> String {
        let file = self.file.as_ref().map(|file| format!(" {file}")).unwrap_or_default();
        format!("{command}{file} | es --store {} import -", self.store)
    }
}
