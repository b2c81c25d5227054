//! The declaration that `#[derive(Event)]` reads.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::{Attribute, Data, DeriveInput, ExprPath, Fields, Index, LitStr, Member, Path, Type};

use super::{default_crate, read_crate};
use crate::attr::keys::{Derive, Place};
use crate::attr::value::{Number, OldVersion, Reader};
use crate::attr::{self, Item, MentionedKeys};
use crate::ctxt::Ctxt;
use crate::suggest;

/// The declaration of an event type.
pub(crate) struct EventInput<'a> {
    pub(crate) source: &'a DeriveInput,
    /// The path of es-core.
    pub(crate) krate: Path,
    /// The codec of the events without a codec of their own.
    pub(crate) codec: CodecName,
    /// Wire names that decode to no event.
    pub(crate) retired: Vec<LitStr>,
    pub(crate) body: Body<'a>,
}

/// The kind of item, with its events.
pub(crate) enum Body<'a> {
    Enum(Vec<Case<'a>>),
    Struct(Box<Case<'a>>),
    Union,
}

impl<'a> Body<'a> {
    /// Returns the events in the order of declaration.
    pub(crate) fn cases(&self) -> &[Case<'a>] {
        match self {
            Self::Enum(cases) => cases,
            Self::Struct(case) => std::slice::from_ref(case),
            Self::Union => &[],
        }
    }
}

/// One event: a variant of an enum, or a struct.
pub(crate) struct Case<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) attributes: &'a [Attribute],
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<Number>,
    pub(crate) oldest: Option<Number>,
    pub(crate) upcasts: Vec<OldVersion>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) codec: Option<CodecName>,
    pub(crate) sample: Option<ExprPath>,
    pub(crate) tags: Vec<TagField<'a>>,
    /// The keys in the attribute, including those whose values cannot be parsed.
    pub(crate) mentioned: MentionedKeys,
    /// Whether `version`, `oldest` and `upcast` could be parsed. Otherwise they are not validated against each other.
    pub(crate) has_valid_versions: bool,
}

/// The codec that encodes an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CodecName {
    #[default]
    Json,
    MessagePack,
}

/// A field with a `tag` attribute.
pub(crate) struct TagField<'a> {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
}

impl<'a> EventInput<'a> {
    /// Parses the attributes and reports errors to `cx`.
    pub(crate) fn new(cx: &Ctxt, source: &'a DeriveInput) -> Self {
        let mut input = Self {
            source,
            krate: default_crate(),
            codec: CodecName::default(),
            retired: Vec::new(),
            body: Body::Union,
        };
        let place = if matches!(source.data, Data::Enum(_)) { Place::Enum } else { Place::Struct };
        let (items, mentioned) = attr::items(cx, Derive::Event, place, &source.attrs);
        let mut case_items = Vec::new();
        for item in items {
            let reader = Reader { cx, derive: Derive::Event, item: &item };
            match item.key.to_string().as_str() {
                "crate" => read_crate(reader, &mut input.krate),
                "retired" => input.retired = reader.texts(),
                "codec" if place == Place::Enum => input.codec = codec(reader).unwrap_or_default(),
                _ => case_items.push(item),
            }
        }
        input.body = match &source.data {
            Data::Enum(data) => Body::Enum(data.variants.iter().map(|variant| Case::of_variant(cx, variant)).collect()),
            Data::Struct(data) => Body::Struct(Box::new(Case::new(
                cx,
                &source.ident,
                &source.attrs,
                &data.fields,
                &case_items,
                mentioned,
            ))),
            Data::Union(_) => Body::Union,
        };
        input
    }
}

impl<'a> Case<'a> {
    fn of_variant(cx: &Ctxt, variant: &'a syn::Variant) -> Self {
        let (items, mentioned) = attr::items(cx, Derive::Event, Place::Variant, &variant.attrs);
        Self::new(cx, &variant.ident, &variant.attrs, &variant.fields, &items, mentioned)
    }

    fn new(
        cx: &Ctxt,
        ident: &'a Ident,
        attributes: &'a [Attribute],
        fields: &'a Fields,
        items: &[Item],
        mentioned: MentionedKeys,
    ) -> Self {
        let mut case = Self {
            ident,
            attributes,
            name: None,
            version: None,
            oldest: None,
            upcasts: Vec::new(),
            aliases: Vec::new(),
            codec: None,
            sample: None,
            tags: tags(cx, fields),
            mentioned,
            has_valid_versions: false,
        };
        for item in items {
            case.read_item(Reader { cx, derive: Derive::Event, item });
        }
        case.has_valid_versions = case.version.is_some() == case.mentioned.has("version")
            && case.oldest.is_some() == case.mentioned.has("oldest")
            && case.upcasts.is_empty() != case.mentioned.has("upcast");
        case
    }

    fn read_item(&mut self, reader: Reader<'_>) {
        match reader.item.key.to_string().as_str() {
            "name" => self.name = reader.text(),
            "version" => self.version = reader.number(),
            "oldest" => self.oldest = reader.number(),
            "upcast" => self.upcasts = reader.old_versions().unwrap_or_default(),
            "alias" => self.aliases = reader.texts(),
            "codec" => self.codec = codec(reader),
            "sample" => self.sample = reader.path(),
            _ => {}
        }
    }

    /// Returns the wire name. Without a declared name, which is an error, it is derived from the identifier.
    pub(crate) fn wire_name(&self) -> String {
        match &self.name {
            Some(name) => name.value(),
            None => suggest::kebab_case(&self.ident.unraw().to_string()),
        }
    }

    /// Returns the version that is encoded.
    pub(crate) fn current(&self) -> u32 {
        self.version.map_or(1, |version| version.value)
    }

    /// Returns the oldest version that can be decoded.
    pub(crate) fn oldest(&self) -> u32 {
        let listed = self.upcasts.iter().map(|old| old.version.value).min();
        listed.unwrap_or_else(|| self.current())
    }
}

fn codec(reader: Reader<'_>) -> Option<CodecName> {
    let text = reader.text()?;
    match text.value().as_str() {
        "json" => Some(CodecName::Json),
        "msgpack" => Some(CodecName::MessagePack),
        other => {
            let hint = suggest::did_you_mean(other, ["json", "msgpack"]);
            reader.cx.error_on(&text, format!("unknown codec {other:?}: expected \"json\" or \"msgpack\"{hint}"));
            None
        }
    }
}

fn tags<'a>(cx: &Ctxt, fields: &'a Fields) -> Vec<TagField<'a>> {
    let mut tags = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        for item in attr::items(cx, Derive::Event, Place::Field, &field.attrs).0 {
            let Some(key) = (Reader { cx, derive: Derive::Event, item: &item }).flag_or_text() else { continue };
            let (key, key_span) = match (key, &field.ident) {
                (Some(key), _) => (key.value(), key.span()),
                (None, Some(name)) => (name.unraw().to_string(), item.key.span()),
                (None, None) => {
                    cx.error_on(&item, "the tag of an unnamed field needs a key, as in `tag = \"customer\"`");
                    continue;
                }
            };
            let member = field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named);
            tags.push(TagField { key, key_span, member, ty: &field.ty });
        }
    }
    tags
}
