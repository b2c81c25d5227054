//! Fields whose values serde does not give back: their attributes, and the types that two values share one encoding of.

use quote::ToTokens;
use syn::{Attribute, Data, Field, GenericArgument, PathArguments, Type};

use crate::attr::serde_items;
use crate::ctxt::Ctxt;

/// The value that the fields belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Event,
    /// A state with snapshots.
    State,
}

/// Checks that each field is encoded and decoded, so that the decoded value equals the encoded one.
pub(crate) fn check(cx: &Ctxt, data: &Data, owner: Owner) {
    match data {
        Data::Struct(data) => data.fields.iter().for_each(|field| check_field(cx, field, owner)),
        Data::Enum(data) => {
            let variants = data.variants.iter().filter(|variant| !has_own_encoding(&variant.attrs));
            variants.flat_map(|variant| &variant.fields).for_each(|field| check_field(cx, field, owner));
        }
        Data::Union(_) => {}
    }
}

/// Reports `skip` on a variant of a state: the state in this variant has no snapshot.
pub(crate) fn check_state_variants(cx: &Ctxt, data: &Data) {
    let Data::Enum(data) = data else { return };
    for variant in &data.variants {
        refuse_skips(cx, &variant.attrs, |key| {
            format!(
                "remove `{key}` from the `#[serde(...)]` of a state with snapshots: a state in this variant cannot be \
                 encoded and decoded"
            )
        });
    }
}

fn check_field(cx: &Ctxt, field: &Field, owner: Owner) {
    if has_one_value(&field.ty) {
        return;
    }
    refuse_skips(cx, &field.attrs, |key| match owner {
        Owner::Event => format!(
            "remove `{key}` from the `#[serde(...)]` of a field of an event: the decoded event would differ from the \
             one that was recorded; remove the field, or compute its value in `evolve`"
        ),
        Owner::State => format!(
            "remove `{key}` from the `#[serde(...)]` of a field of a state with snapshots: a load from a snapshot \
             would give another state than a load without; remove the field or the `snapshot(...)`"
        ),
    });
    if !has_own_encoding(&field.attrs) {
        refuse_nested_options(cx, &field.ty, owner);
    }
}

/// Returns whether functions of the user encode the field or variant.
fn has_own_encoding(attributes: &[Attribute]) -> bool {
    serde_items(attributes).iter().any(|item| item.key == "with" || item.key == "deserialize_with")
}

fn refuse_skips(cx: &Ctxt, attributes: &[Attribute], message: impl Fn(&str) -> String) {
    for item in serde_items(attributes) {
        let key = item.key.to_string();
        if matches!(key.as_str(), "skip" | "skip_serializing" | "skip_deserializing") {
            cx.error_on(&item.key, message(&key));
        }
    }
}

/// Reports each `Option` whose content can be `null` as well, anywhere in a type.
fn refuse_nested_options(cx: &Ctxt, ty: &Type, owner: Owner) {
    if let Some(content) = argument_of(ty, &["Option"])
        && let Some(inner) = nullable(content)
    {
        let owner = match owner {
            Owner::Event => "an event",
            Owner::State => "a state with snapshots",
        };
        let inner = inner.to_token_stream().to_string().replace(' ', "");
        cx.error_on(
            ty,
            format!(
                "`Option<{inner}>` in {owner}: serde encodes both `None` and a `Some` without content as `null`, so \
                 that both are decoded as `None`; use an enum with a variant for each case, or give the field a \
                 `#[serde(with = \"...\")]` that distinguishes them"
            ),
        );
        return;
    }
    match ty {
        Type::Array(array) => refuse_nested_options(cx, &array.elem, owner),
        Type::Slice(slice) => refuse_nested_options(cx, &slice.elem, owner),
        Type::Reference(reference) => refuse_nested_options(cx, &reference.elem, owner),
        Type::Group(group) => refuse_nested_options(cx, &group.elem, owner),
        Type::Paren(paren) => refuse_nested_options(cx, &paren.elem, owner),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|ty| refuse_nested_options(cx, ty, owner)),
        Type::Path(path) => {
            for segment in &path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &segment.arguments else { continue };
                for argument in &arguments.args {
                    if let GenericArgument::Type(ty) = argument {
                        refuse_nested_options(cx, ty, owner);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Returns the type that serde may encode as `null` in place of `ty`: `ty` itself, or the content of a type that serde
/// encodes as its content.
fn nullable(ty: &Type) -> Option<&Type> {
    const TRANSPARENT: &[&str] = &["Box", "Rc", "Arc", "Cow", "Cell", "RefCell", "Mutex", "RwLock"];
    match ty {
        Type::Group(group) => nullable(&group.elem),
        Type::Paren(paren) => nullable(&paren.elem),
        Type::Reference(reference) => nullable(&reference.elem),
        Type::Tuple(tuple) if tuple.elems.is_empty() => Some(ty),
        _ if argument_of(ty, &["Option", "PhantomData"]).is_some() => Some(ty),
        _ => argument_of(ty, TRANSPARENT).and_then(nullable),
    }
}

/// Returns whether a type has only one value, so that a skipped field of this type loses nothing.
fn has_one_value(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty()) || argument_of(ty, &["PhantomData"]).is_some()
}

/// Returns the first type argument of a type with one of these names.
fn argument_of<'a>(ty: &'a Type, names: &[&str]) -> Option<&'a Type> {
    match ty {
        Type::Group(group) => argument_of(&group.elem, names),
        Type::Paren(paren) => argument_of(&paren.elem, names),
        Type::Path(path) => {
            let segment = path.path.segments.last()?;
            let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
            if !names.iter().any(|name| segment.ident == name) {
                return None;
            }
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
        }
        _ => None,
    }
}
