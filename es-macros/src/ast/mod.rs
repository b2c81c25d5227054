//! The input of each derive: what was declared, with the attributes taken in but not yet checked against each other.

mod aggregate;
mod event;

pub(crate) use aggregate::{AggregateInput, Snapshot};
pub(crate) use event::{Body, Case, CodecName, EventInput, TagField};

use syn::{Path, parse_quote};

use crate::attr::value::Reader;

/// Where es-core is, unless `crate = "..."` says otherwise.
fn default_crate() -> Path {
    parse_quote!(::es_core)
}

/// Takes in `crate = "..."`.
fn read_crate(reader: Reader<'_>, target: &mut Path) {
    if let Some(path) = reader.quoted_path() {
        *target = path;
    }
}
