//! The declarations that the derive macros read: each attribute is parsed, but not yet validated against the others.

mod aggregate;
mod event;

pub(crate) use aggregate::{AggregateInput, Declared, OwnerOption, Snapshot};
pub(crate) use event::{Body, Case, CodecName, EventInput, TagField};

use syn::{Path, parse_quote};

use crate::attr::value::Reader;

/// Returns the path of es-core for declarations without `crate = ...`.
fn default_crate() -> Path {
    parse_quote!(::es_core)
}

/// Reads `crate = "..."` or `crate = path`.
fn read_crate(reader: Reader<'_>, target: &mut Path) {
    if let Some(path) = reader.crate_path() {
        *target = path;
    }
}
