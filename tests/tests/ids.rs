//! User case 19: the empty id was accepted, and id `007` of a `u64` was the stream `guest-7`. `stream(id)` and
//! `id_of(stream)` are inverses for every id type, and another spelling of an id is refused.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;

use es_core::model::{Category, Dot, NameError, Tag};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{CommandId, EventId, EventType, LoadError, Position, Revision, StreamId};
use es_tests::account::AccountEvent;
use proptest::prelude::*;
use uuid::Uuid;

/// Declares an aggregate with an id type, and checks an id and a text.
macro_rules! id_types {
    ($($check:ident $id:ty)*) => {$(
        fn $check(id: Option<$id>, text: &str) {
            #[derive(Clone, Aggregate)]
            #[aggregate(category = "thing", id = $id, event = AccountEvent)]
            struct Thing;

            if let Some(id) = id && let Ok(stream) = Thing::stream(&id) {
                assert_eq!(Thing::id_of(&stream), Some(id));
            }
            let stream = StreamId::new(format!("thing-{text}")).expect("a name");
            match Thing::parse_id(text) {
                Ok(id) => {
                    assert_eq!(Thing::stream(&id), Ok(stream.clone()));
                    assert_eq!(Thing::id_of(&stream), Some(id));
                }
                Err(_) => assert_eq!(Thing::id_of(&stream), None),
            }
        }
    )*};
}

id_types! {
    u8s u8  u16s u16  u32s u32  u64s u64  u128s u128  usizes usize
    i8s i8  i16s i16  i32s i32  i64s i64  i128s i128  isizes isize
    nonzeros NonZeroU64  bools bool  chars char  texts String  uuids Uuid  addresses IpAddr
    event_ids EventId  command_ids CommandId  streams StreamId  types EventType  tags Tag  categories Category
    positions Position  revisions Revision  dots Dot
}

/// Returns texts that are ids, other spellings of ids, and no ids.
fn spelling() -> impl Strategy<Value = String> {
    let number = prop_oneof![any::<i128>().prop_map(|n| n.to_string()), (-20_i32..300).prop_map(|n| n.to_string())];
    let uuid = any::<u128>().prop_map(Uuid::from_u128);
    let word = "[a-zA-Z0-9é:/ .+-]{0,12}";
    prop_oneof![
        number.clone(),
        (prop_oneof![Just("0"), Just("+"), Just("-"), Just(" "), Just("00")], number)
            .prop_map(|(p, n)| format!("{p}{n}")),
        uuid.clone().prop_map(|uuid| uuid.to_string()),
        uuid.clone().prop_map(|uuid| uuid.to_string().to_uppercase()),
        uuid.clone().prop_map(|uuid| uuid.simple().to_string()),
        uuid.prop_map(|uuid| uuid.braced().to_string()),
        any::<(u64, u64)>().prop_map(|(origin, sequence)| format!("{origin}:{sequence}")),
        any::<IpAddr>().prop_map(|address| address.to_string()),
        word.prop_map(|word| word.to_owned()),
    ]
}

proptest! {
    #[test]
    fn the_stream_and_the_id_are_inverses(text in spelling(), number in any::<i128>(), word in "\\PC{0,20}") {
        macro_rules! check {
            ($($check:ident)*) => { $($check(None, &text);)* };
        }
        check!(nonzeros bools command_ids streams types tags categories positions revisions dots);
        u8s(u8::try_from(number).ok(), &text);
        u16s(u16::try_from(number).ok(), &text);
        u32s(u32::try_from(number).ok(), &text);
        u64s(Some(number as u64), &text);
        u128s(Some(number as u128), &text);
        usizes(Some(number as usize), &text);
        i8s(Some(number as i8), &text);
        i16s(Some(number as i16), &text);
        i32s(Some(number as i32), &text);
        i64s(Some(number as i64), &text);
        i128s(Some(number), &text);
        isizes(Some(number as isize), &text);
        chars(word.chars().next(), &text);
        uuids(Some(Uuid::from_u128(number as u128)), &text);
        event_ids(Some(EventId::from_uuid(Uuid::from_u128(number as u128))), &text);
        addresses(Some(IpAddr::from((number as u128).to_be_bytes())), &text);
        texts(Some(word), &text);
    }
}

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "guest", id = u64, event = AccountEvent)]
struct Guest;

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "room", id = Uuid, event = AccountEvent)]
struct Room;

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "name", id = String, event = AccountEvent)]
struct Name;

/// An id that is written in another way than it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rounded(u64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 / 10)
    }
}

impl FromStr for Rounded {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "price", id = Rounded, event = AccountEvent)]
struct Price;

macro_rules! evolves {
    ($($aggregate:ident)*) => {$(
        impl Evolve for $aggregate {
            fn initial(_: &Self::Id) -> Self {
                Self
            }

            fn evolve(&mut self, _: &AccountEvent, _: &EventContext<'_>) {}
        }
    )*};
}

evolves! { Name Price }

#[test]
fn another_spelling_of_an_id_is_refused() {
    for text in ["007", "+7", "-0", "00", " 7", "7 ", "", "x", "18446744073709551616"] {
        assert!(Guest::parse_id(text).is_err(), "{text:?}");
        let stream = StreamId::new(format!("guest-{text}")).expect("a name");
        assert_eq!(Guest::id_of(&stream), None, "{text:?}");
    }
    assert_eq!(Guest::parse_id("7"), Ok(7));
    assert_eq!(
        Guest::parse_id("007").expect_err("another spelling").to_string(),
        "expected an id of category \"guest\", found \"007\", which is another spelling of \"7\"; use that one"
    );
    let uuid = "67e55044-10b1-726f-9247-bb680e5fe0c8";
    assert!(Room::parse_id(uuid).is_ok());
    for text in [uuid.to_uppercase(), uuid.replace('-', ""), format!("{{{uuid}}}"), format!("urn:uuid:{uuid}")] {
        let error = Room::parse_id(&text).expect_err("another spelling");
        assert!(matches!(&error, NameError::Id { found: Some(found), .. } if found == uuid), "{error}");
    }
}

#[tokio::test]
async fn the_repository_refuses_the_empty_id_and_an_id_that_is_not_read_back() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let names = Repository::<Name>::new(Arc::clone(&store));
    let error = names.load(&String::new()).await.expect_err("an empty id");
    assert!(matches!(error, LoadError::Name(NameError::Empty { .. })), "{error}");
    assert!(names.load(&"-".to_owned()).await.is_ok(), "only the first - separates the category");
    let prices = Repository::<Price>::new(store);
    let error = prices.load(&Rounded(75)).await.expect_err("7 is not 75");
    assert!(matches!(&error, LoadError::Name(NameError::Id { text, .. }) if text == "7"), "{error}");
}
