//! [`ProcessId`], which identifies an instance, [`ProcessKey`], by which events find it, and [`CompletionToken`].

use std::fmt;
use std::str::FromStr;

use es_core::model::CorrelationId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of an instance of a process: the category of its state and the id of its state. Written as `payment:17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ProcessId {
    process: Box<str>,
    instance: Box<str>,
}

/// A text is not the id of an instance of a process, or not a completion token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {text:?}")]
pub struct ParseProcessIdError {
    /// What was expected, with an example.
    pub expected: &'static str,
    /// The text.
    pub text: String,
}

/// The namespace of correlation ids.
const CORRELATIONS: Uuid = Uuid::from_u128(0x8f0c_61d2_7b3e_5a94_9c15_d2ab_40e7_7613);

impl ProcessId {
    /// Returns the id of an instance of this process. The name of the process must not contain `:`.
    ///
    /// # Errors
    /// [`ParseProcessIdError`] if one of the texts is empty, or the name contains `:`.
    pub fn new(process: &str, instance: impl fmt::Display) -> Result<Self, ParseProcessIdError> {
        format!("{process}:{instance}").parse()
    }

    /// Returns the name of the process.
    #[must_use]
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Returns the part that identifies the instance.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns the correlation id of what an instance does without an event as its cause.
    pub(crate) fn correlation(&self) -> CorrelationId {
        CorrelationId::from_uuid(Uuid::new_v5(&CORRELATIONS, self.to_string().as_bytes()))
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.process, self.instance)
    }
}

impl FromStr for ProcessId {
    type Err = ParseProcessIdError;

    fn from_str(text: &str) -> Result<Self, ParseProcessIdError> {
        match text.split_once(':') {
            Some((process, instance)) if !process.is_empty() && !instance.is_empty() => {
                Ok(Self { process: process.into(), instance: instance.into() })
            }
            _ => {
                let expected = "the id of a process, such as \"payment:17\"";
                Err(ParseProcessIdError { expected, text: text.to_owned() })
            }
        }
    }
}

impl From<ProcessId> for String {
    fn from(id: ProcessId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ProcessId {
    type Error = ParseProcessIdError;

    fn try_from(text: String) -> Result<Self, ParseProcessIdError> {
        text.parse()
    }
}

/// A value by which events find an instance, for example the id of a payment. Within a process, a key belongs to at
/// most one running instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// The kind of the value, such as `payment`.
    pub name: String,
    /// The value.
    pub value: String,
}

impl ProcessKey {
    /// Returns a key.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl fmt::Display) -> Self {
        Self { name: name.into(), value: value.to_string() }
    }
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

/// The address of an open wait of an instance, which an external caller passes back to complete it. Written as
/// `payment:17/provider/1`. It is not a secret: check the rights of the caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CompletionToken {
    pub(crate) process: ProcessId,
    pub(crate) wait: String,
    /// The number of times that the wait has been opened.
    pub(crate) run: u32,
}

impl CompletionToken {
    /// Returns the instance that waits.
    #[must_use]
    pub const fn process(&self) -> &ProcessId {
        &self.process
    }

    /// Returns the name of the wait.
    #[must_use]
    pub fn wait(&self) -> &str {
        &self.wait
    }
}

impl fmt::Display for CompletionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.process, self.wait, self.run)
    }
}

impl FromStr for CompletionToken {
    type Err = ParseProcessIdError;

    fn from_str(text: &str) -> Result<Self, ParseProcessIdError> {
        let parse = || {
            let (rest, run) = text.rsplit_once('/')?;
            let (process, wait) = rest.rsplit_once('/')?;
            Some(Self { process: process.parse().ok()?, wait: wait.to_owned(), run: run.parse().ok()? })
        };
        let expected = "a completion token, such as \"payment:17/provider/1\"";
        parse()
            .filter(|token: &Self| !token.wait.is_empty())
            .ok_or_else(|| ParseProcessIdError { expected, text: text.to_owned() })
    }
}

impl From<CompletionToken> for String {
    fn from(token: CompletionToken) -> Self {
        token.to_string()
    }
}

impl TryFrom<String> for CompletionToken {
    type Error = ParseProcessIdError;

    fn try_from(text: String) -> Result<Self, ParseProcessIdError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_tokens_are_read_back_from_their_texts() {
        let id = ProcessId::new("payment", "a/b:c").expect("an id");
        assert_eq!((id.process(), id.instance()), ("payment", "a/b:c"));
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        let token = CompletionToken { process: id, wait: "provider".to_owned(), run: 3 };
        assert_eq!(token.to_string(), "payment:a/b:c/provider/3");
        assert_eq!(token.to_string().parse(), Ok(token));
        for text in ["", "a", ":a", "a:"] {
            assert!(text.parse::<ProcessId>().is_err(), "{text}");
        }
        for text in ["payment:17", "payment:17/x", "payment:17//1", "payment:17/x/y", "payment/x/1"] {
            assert!(text.parse::<CompletionToken>().is_err(), "{text}");
        }
    }
}
