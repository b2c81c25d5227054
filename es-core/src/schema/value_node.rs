//! [`Node`]: the digest of a value and of each of its parts, to name the part in which two values differ.

use std::fmt::Write as _;

/// The maximum length of a described value, in characters.
const MAX_TEXT_CHARS: usize = 60;

/// The place of a part within its parent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Segment<'a> {
    /// A field of a struct.
    Field(&'a str),
    /// An element of a sequence or a tuple.
    Index(u64),
    /// The key of an entry of a map, which precedes its value.
    Key,
    /// The value of an entry of a map.
    Value,
    /// The content of a newtype, a newtype variant or `Some`.
    Inner,
}

/// The digest of a value or of a part of a value.
#[derive(Debug)]
pub(crate) struct Node {
    /// The place within the parent, such as `price`, `[2]` or `["Chai"]`.
    place: String,
    digest: u64,
    /// A short description of the value.
    text: String,
    is_not_finite: bool,
    parts: Vec<Self>,
}

/// A part of a value that is not read back as it was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The path of the part, such as `lines[2].price`. Empty for the value as a whole.
    pub(crate) path: String,
    /// A short description of the part.
    pub(crate) written: String,
    /// A short description of the part that was read back.
    pub(crate) read: String,
}

impl Node {
    /// Returns the innermost part in which `read` differs, or `None` if the digests are equal.
    pub(crate) fn first_difference(&self, read: &Self) -> Option<Difference> {
        if self.digest == read.digest {
            return None;
        }
        let counterparts = self.parts.iter().enumerate().map(|(index, part)| (part, read.part(index, &part.place)));
        let mut missing = None;
        for (part, other) in counterparts {
            match other {
                Some(other) => {
                    if let Some(difference) = part.first_difference(other) {
                        return Some(Difference { path: joined(&part.place, &difference.path), ..difference });
                    }
                }
                None => missing = missing.or(Some(part)),
            }
        }
        // A part is missing in a map or a struct that has other parts. Otherwise the values differ as a whole.
        let missing = missing.filter(|part| !part.place.is_empty() && !read.parts.is_empty());
        Some(match missing {
            Some(part) => Difference { path: part.place.clone(), written: part.text.clone(), read: "nothing".into() },
            None => Difference { path: String::new(), written: self.text.clone(), read: read.text.clone() },
        })
    }

    /// Returns the path and the text of the first float that is NaN or infinite.
    pub(crate) fn first_not_finite(&self) -> Option<(String, &str)> {
        if self.is_not_finite {
            return Some((String::new(), &self.text));
        }
        self.parts.iter().find_map(|part| {
            let (path, text) = part.first_not_finite()?;
            Some((joined(&part.place, &path), text))
        })
    }

    /// Returns the part with this place, which is usually the one at the same index.
    fn part(&self, index: usize, place: &str) -> Option<&Self> {
        let same_index = self.parts.get(index).filter(|part| part.place == place);
        same_index.or_else(|| self.parts.iter().find(|part| part.place == place))
    }
}

/// Joins a place and the path of a part within it.
fn joined(place: &str, path: &str) -> String {
    match (place.is_empty(), path.is_empty() || path.starts_with('[')) {
        (true, _) => path.to_owned(),
        (false, true) => format!("{place}{path}"),
        (false, false) => format!("{place}.{path}"),
    }
}

/// Builds the nodes of a value while it is walked.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// The nodes of the values that are being walked, from the outermost.
    open: Vec<Open>,
    root: Open,
}

#[derive(Debug, Default)]
struct Open {
    text: String,
    is_not_finite: bool,
    parts: Vec<Node>,
    /// The text of the key of the current entry of a map.
    key: String,
}

impl Recorder {
    pub(super) fn enter(&mut self) {
        self.open.push(Open::default());
    }

    pub(super) fn leave(&mut self, segment: Segment<'_>, digest: u64) {
        let Some(part) = self.open.pop() else { return };
        let parent = self.current();
        let place = match segment {
            Segment::Field(name) => name.to_owned(),
            Segment::Index(index) => format!("[{index}]"),
            Segment::Value => format!("[{}]", parent.key),
            Segment::Inner => String::new(),
            Segment::Key => {
                parent.key = part.text;
                return;
            }
        };
        if matches!(segment, Segment::Inner) {
            let _ = write!(parent.text, "({})", part.text);
        }
        let Open { text, is_not_finite, parts, .. } = part;
        parent.parts.push(Node { place, digest, text: shortened(text), is_not_finite, parts });
    }

    pub(super) fn describe(&mut self, text: String) {
        self.current().text = text;
    }

    pub(super) fn mark_not_finite(&mut self) {
        self.current().is_not_finite = true;
    }

    pub(super) fn finish(self, digest: u64) -> Node {
        let Open { text, is_not_finite, parts, .. } = self.root;
        Node { place: String::new(), digest, text: shortened(text), is_not_finite, parts }
    }

    fn current(&mut self) -> &mut Open {
        self.open.last_mut().unwrap_or(&mut self.root)
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
