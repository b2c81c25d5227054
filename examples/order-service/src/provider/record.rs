//! [`ProviderRecord`]: the effects of the provider, in memory and as lines of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The time in which an earlier process must have released the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The kind of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EffectKind {
    /// A customer owes money and has not paid.
    Invoice,
    /// Money was taken.
    Payment,
    /// The money of a payment was returned.
    Refund,
    /// A parcel was shipped.
    Shipment,
    /// A shipment was cancelled.
    Cancellation,
    /// A customer was reminded of a payment.
    Reminder,
}

/// A request for an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectRequest {
    /// The kind.
    pub kind: EffectKind,
    /// The idempotency key.
    pub key: String,
    /// The key of the request to which it refers: that of the payment, the shipment or the invoice.
    pub of: Option<String>,
    /// The saga.
    pub saga: String,
    /// The amount of a payment or an invoice; 0 for other kinds.
    pub cents: u64,
}

/// An effect that took place: a line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordedEffect {
    /// The kind.
    pub kind: EffectKind,
    /// The idempotency key.
    pub key: String,
    /// The key of the request to which it refers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The saga.
    pub saga: String,
    /// The money that moved, or that is owed.
    pub cents: u64,
}

/// A request was refused. It had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key belongs to another request.
    #[error("key {key} belongs to another request; use another key")]
    OtherRequest {
        /// The key.
        key: String,
    },
    /// The request was undone, possibly before it arrived.
    #[error("the request with key {key} was refunded or cancelled")]
    Undone {
        /// The key.
        key: String,
    },
    /// Nobody owes money under this key.
    #[error("no open invoice with key {key}")]
    NoInvoice {
        /// The key.
        key: String,
    },
}

/// The file of the provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another provider has the file open.
    #[error("another provider uses {}; stop it, or give another file", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line is not an effect.
    #[error("expected an effect in line {line} of {}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The reason.
        source: serde_json::Error,
    },
    /// An operation on the file failed.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Reads the effects of a file. A file that does not exist has none. A last line without its end is ignored: its
/// request was not answered.
///
/// # Errors
/// - [`RecordError::Io`] if the file cannot be read.
/// - [`RecordError::Line`] if a line is not an effect.
pub fn read_record(path: &Path) -> Result<Vec<RecordedEffect>, RecordError> {
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes).map(|(effects, _)| effects),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RecordError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// Parses the complete lines. Returns their effects and their length in bytes.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<RecordedEffect>, usize), RecordError> {
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = bytes.get(..complete).unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let effects = lines.enumerate().map(|(index, line)| {
        serde_json::from_slice(line).map_err(|source| RecordError::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        })
    });
    Ok((effects.collect::<Result<_, _>>()?, complete))
}

/// The effects of a provider. One process at a time has the file open.
///
/// An effect is in the file when its request is answered, so it survives a kill of the process. It is not synced, so it
/// may not survive a power failure.
#[derive(Debug)]
pub struct ProviderRecord {
    path: PathBuf,
    file: File,
    /// The length of the complete lines.
    length: u64,
    effects: Vec<RecordedEffect>,
    by_key: BTreeMap<String, usize>,
    /// The money that was taken under the key of a payment and not returned.
    paid: BTreeMap<String, u64>,
    /// The amounts that customers owe, by the key of the payment.
    owed: BTreeMap<String, u64>,
    /// The keys of payments and shipments that were undone.
    undone: BTreeSet<String>,
}

impl ProviderRecord {
    /// Opens or creates a file, and removes an incomplete last line. Waits for a moment if an earlier process has the
    /// file open.
    ///
    /// # Errors
    /// - [`RecordError::InUse`] if another process keeps the file open.
    /// - [`RecordError::Io`] or [`RecordError::Line`] if the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |action| move |source| RecordError::Io { action, path: path.to_owned(), source };
        let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = opened.map_err(failed("open"))?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let (effects, length) = parse(path, &bytes)?;
        let length = length as u64;
        file.set_len(length).map_err(failed("write"))?;
        let mut record = Self {
            path: path.to_owned(),
            file,
            length,
            effects: Vec::new(),
            by_key: BTreeMap::new(),
            paid: BTreeMap::new(),
            owed: BTreeMap::new(),
            undone: BTreeSet::new(),
        };
        effects.into_iter().for_each(|effect| record.apply(effect));
        Ok(record)
    }

    /// Returns all effects, in their order.
    #[must_use]
    pub fn effects(&self) -> &[RecordedEffect] {
        &self.effects
    }

    /// Returns the effect of a request that took place.
    #[must_use]
    pub fn effect(&self, key: &str) -> Option<&RecordedEffect> {
        self.by_key.get(key).and_then(|index| self.effects.get(*index))
    }

    /// Returns whether money was taken under the key of a payment and not returned.
    #[must_use]
    pub fn is_paid(&self, key: &str) -> bool {
        self.paid.contains_key(key)
    }

    /// Returns whether a payment or a shipment was undone.
    #[must_use]
    pub fn is_undone(&self, key: &str) -> bool {
        self.undone.contains(key)
    }

    /// Makes an effect, unless the key is known, and writes it to the file.
    ///
    /// # Errors
    /// The outer error is [`RecordError::Io`] if the file cannot be written; the inner one the [`Refusal`]. There is no
    /// effect then.
    pub fn perform(&mut self, request: EffectRequest) -> Result<Result<RecordedEffect, Refusal>, RecordError> {
        let EffectRequest { kind, key, of, saga, cents } = request;
        if let Some(known) = self.effect(&key) {
            let is_same = known.kind == kind && known.of == of && known.saga == saga;
            return Ok(if is_same { Ok(known.clone()) } else { Err(Refusal::OtherRequest { key }) });
        }
        let target = of.clone().unwrap_or_default();
        let refused = match kind {
            EffectKind::Payment if of.is_some() && self.undone.contains(&target) => {
                Some(Refusal::Undone { key: target.clone() })
            }
            EffectKind::Payment if of.is_some() && !self.owed.contains_key(&target) => {
                Some(Refusal::NoInvoice { key: target.clone() })
            }
            EffectKind::Payment | EffectKind::Invoice | EffectKind::Shipment if self.undone.contains(&key) => {
                Some(Refusal::Undone { key: key.clone() })
            }
            _ => None,
        };
        if let Some(refusal) = refused {
            return Ok(Err(refusal));
        }
        let cents = match kind {
            EffectKind::Payment if of.is_some() => self.owed.get(&target).copied().unwrap_or_default(),
            EffectKind::Payment | EffectKind::Invoice => cents,
            EffectKind::Refund => self.paid.get(&target).copied().unwrap_or_default(),
            EffectKind::Shipment | EffectKind::Cancellation | EffectKind::Reminder => 0,
        };
        let effect = RecordedEffect { kind, key, of, saga, cents };
        self.write(&effect)?;
        self.apply(effect.clone());
        Ok(Ok(effect))
    }

    fn write(&mut self, effect: &RecordedEffect) -> Result<(), RecordError> {
        let mut line = serde_json::to_vec(effect).map_err(io::Error::from).map_err(|source| self.failed(source))?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // Without this, the next line would continue an incomplete one. An error here shows at the next write.
            let _ = self.file.set_len(self.length);
            return Err(self.failed(source));
        }
        self.length += line.len() as u64;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::Io { action: "write", path: self.path.clone(), source }
    }

    fn apply(&mut self, effect: RecordedEffect) {
        let target = effect.of.clone();
        match effect.kind {
            EffectKind::Invoice => drop(self.owed.insert(effect.key.clone(), effect.cents)),
            EffectKind::Payment => {
                let payment = target.unwrap_or_else(|| effect.key.clone());
                self.owed.remove(&payment);
                self.paid.insert(payment, effect.cents);
            }
            EffectKind::Refund | EffectKind::Cancellation => {
                let target = target.unwrap_or_default();
                self.paid.remove(&target);
                self.owed.remove(&target);
                self.undone.insert(target);
            }
            EffectKind::Shipment | EffectKind::Reminder => {}
        }
        // If the file has two effects of one key, the first one is that of the answer.
        self.by_key.entry(effect.key.clone()).or_insert(self.effects.len());
        self.effects.push(effect);
    }
}

/// Locks the file. The lock ends with the process.
fn lock(file: &File, path: &Path) -> Result<(), RecordError> {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(RecordError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => {
                return Err(RecordError::Io { action: "lock", path: path.to_owned(), source });
            }
        }
    }
}

#[cfg(test)]
mod tests;
