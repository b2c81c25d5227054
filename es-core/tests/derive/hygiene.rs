//! Tests of hygiene: generated code uses absolute paths. It compiles where names of the prelude are redefined, without
//! imports, and where es-core has another path.

/// A module that redefines every name that generated code might use.
mod shadowed {
    #![no_implicit_prelude]
    #![allow(dead_code, non_camel_case_types, non_upper_case_globals, non_snake_case)]

    use ::serde::{Deserialize, Serialize};

    // Types, traits and functions of the prelude.
    struct Result;
    struct Option;
    struct Vec;
    struct String;
    struct Box;
    struct Events;
    struct Event;
    struct Aggregate;
    struct Consistency;
    struct Level;
    struct Local;
    struct Eventual;
    struct SnapshotPolicy;
    struct SnapshotSupport;
    trait Send {}
    trait Sync {}
    trait Sized {}
    trait Clone {}
    trait Copy {}
    trait Default {}
    trait Iterator {}
    trait IntoIterator {}
    trait From {}
    trait Into {}
    trait Display {}
    trait Fn {}
    fn drop() {}
    fn Ok() {}
    fn Err() {}
    fn Some() {}
    struct None;

    // Names of possible bindings in generated code: a constant with the name would turn the binding into a pattern.
    const event: () = ();
    const events: () = ();
    const found: () = ();
    const value: () = ();
    const name: () = ();
    const sample: () = ();
    const old: () = ();

    // Crates and modules.
    mod std {}
    mod core {}
    mod alloc {}
    mod serde {}
    mod es_core {}
    mod es_macros {}

    // Macros, which shadow those of the prelude.
    macro_rules! shadow {
        ($($macro:ident)*) => {$(
            #[allow(unused_macros)]
            macro_rules! $macro { () => { compile_error!("a macro of the user was called") } }
        )*};
    }
    shadow! { vec matches unreachable panic assert format concat stringify }

    #[derive(
        ::core::clone::Clone, ::core::fmt::Debug, ::core::cmp::PartialEq, Serialize, Deserialize, ::es_core::Event,
    )]
    #[event(codec = "msgpack", retired("forgotten"))]
    pub(super) enum Everything {
        #[event(name = "struct", version = 2, upcast(1 = Old), alias("former"))]
        Struct {
            #[event(tag)]
            id: u64,
            #[event(tag)]
            more: ::std::vec::Vec<u64>,
        },
        #[event(name = "tuple", sample = made)]
        Tuple(#[event(tag = "first")] u8, u8),
        #[event(name = "unit", codec = "json")]
        Unit,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Old {
        id: u64,
    }

    impl ::es_core::Upcast<Everything> for Old {
        fn upcast(self) -> ::es_core::Events<Everything> {
            ::es_core::Events::one(Everything::Struct { id: self.id, more: ::std::vec::Vec::new() })
        }
    }

    fn made() -> Everything {
        Everything::Tuple(1, 2)
    }

    #[derive(::core::clone::Clone, Serialize, Deserialize, ::es_core::Aggregate)]
    #[aggregate(
        category = "everything", id = u64, event = Everything, consistency = "eventual", conflict = "crdt",
        snapshot(every = 1, load_cost = "1ms", keep = 1)
    )]
    pub(super) struct State(::core::marker::PhantomData<()>);
}

/// Redefined primitive types, which `#[derive(Aggregate)]` supports and serde does not.
mod primitive {
    #![allow(dead_code, non_camel_case_types)]
    struct str;
    struct u32;
    struct bool;

    #[derive(Clone, es_core::Aggregate)]
    #[aggregate(category = "text", id = u64, event = super::shadowed::Everything)]
    pub(super) struct Text;
}

/// es-core under another path, as in a crate that re-exports it.
mod renamed {
    pub(super) mod facade {
        pub(crate) use es_core as inner;
    }
    mod es_core {}

    #[derive(Clone, serde::Serialize, serde::Deserialize, facade::inner::Event)]
    #[event(crate = "crate::hygiene::renamed::facade::inner", name = "happened", version = 2, upcast(1 = Happened0))]
    pub(super) struct Happened {
        #[event(tag)]
        what: String,
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Happened0;

    impl facade::inner::Upcast<Happened> for Happened0 {
        fn upcast(self) -> facade::inner::Events<Happened> {
            facade::inner::Events::none()
        }
    }

    #[derive(Clone, serde::Serialize, serde::Deserialize, facade::inner::Aggregate)]
    #[aggregate(crate = "self::facade::inner", category = "state", id = u64, event = Happened, snapshot(every = 1))]
    pub(super) struct State;
}

use es_core::Aggregate;
use es_core::schema::EventSamples;

fn all_samples_survive<E: EventSamples>() {
    for sample in E::samples() {
        let encoded = sample.expect("a sample").encode().expect("encodes");
        assert_eq!(E::decode(encoded.raw()).expect("decodes").len(), 1);
    }
}

#[test]
fn redefined_names_do_not_affect_generated_code() {
    all_samples_survive::<shadowed::Everything>();
    assert!(shadowed::State::snapshots().is_some());
    assert_eq!(primitive::Text::CATEGORY, "text");
}

#[test]
fn es_core_can_have_another_path() {
    all_samples_survive::<renamed::Happened>();
    assert!(renamed::State::snapshots().is_some());
}
