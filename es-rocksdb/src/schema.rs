//! The schema: the directories, the column families, and what the `meta` family says of the store itself.
//!
//! `docs/storage-format.md` is rendered from the constants of this file, of `key` and of `record`.

/// The version of the whole format: column families, keys and values. This is the only version that is read: the
/// migration is an export with the program that wrote the store and an import with this one.
pub(crate) const FORMAT_VERSION: u32 = 4;

/// The directories within the directory of a store.
pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TABLES: &str = "tables";

/// Key in [`Cf::Meta`]: the format version, 4 bytes big-endian.
pub(crate) const META_FORMAT: &[u8] = b"format";
/// Key in [`Cf::Meta`]: the id of the store, the 16 bytes of a UUID.
pub(crate) const META_STORE_ID: &[u8] = b"store-id";
/// Key in [`Cf::Meta`]: when the store was created, 8 bytes big-endian, microseconds since 1970 in UTC.
pub(crate) const META_CREATED: &[u8] = b"created";
/// Key in [`Cf::Meta`]: the secret of the hashes of unique keys, see
/// [`KeySecret`](es_core::store::implement::KeySecret).
pub(crate) const META_KEY_SECRET: &[u8] = b"key-secret";

/// Key in [`Cf::Meta`]: the position up to which the tables have all events, 8 bytes big-endian. The log after it is
/// read when the store is opened.
pub(crate) const META_APPLIED: &[u8] = b"applied";
/// Key in [`Cf::Meta`]: the position up to which the tables may have entries of events, 8 bytes big-endian. It is on
/// disk before the tables of a run are.
pub(crate) const META_SEALING: &[u8] = b"sealing";
/// Key in [`Cf::Meta`]: there, with an empty value, while tables may have the content of events that a scavenge has
/// removed from the log and from the keys.
pub(crate) const META_UNCOMPACTED: &[u8] = b"uncompacted";
/// Key in [`Cf::Meta`]: the number of a frame of the log up to which the tables have all rows and unique keys, and the
/// position of the last event up to it, 0 for none, each 8 bytes big-endian.
pub(crate) const META_APPLIED_FRAME: &[u8] = b"applied-frame";
/// Key in [`Cf::Meta`]: the position of the last scavenge point that was completed, 8 bytes big-endian.
pub(crate) const META_SCAVENGED: &[u8] = b"scavenged";
/// What keys in [`Cf::Meta`] begin with that say of a stream which revision is the first that was not removed.
pub(crate) const META_FIRST: &str = "first";

/// The rows of the `meta` family for the document: key, value.
#[cfg(test)]
pub(crate) const META_ROWS: [(&[u8], &str); 10] = [
    (META_FORMAT, "format version, `u32`"),
    (META_STORE_ID, "id of the store and of its backups, the 16 bytes of a UUID"),
    (META_CREATED, "time of the creation of the store, `i64` microseconds since 1970 in UTC"),
    (META_KEY_SECRET, "secret of the hashes of unique keys, 32 random bytes"),
    (META_APPLIED, "position up to which the tables have all events, `u64`; missing before the first table"),
    (
        META_APPLIED_FRAME,
        "number of the frame up to which the tables have all rows and unique keys, `u64`, and the position of the last \
         event up to it, `u64`, 0 for none; missing before the first",
    ),
    (META_SEALING, "position up to which the tables may have entries of events, `u64`; missing before the first table"),
    (META_UNCOMPACTED, "empty; there while tables may have the content of events that a scavenge has removed"),
    (META_SCAVENGED, "position of the last completed scavenge point, `u64`; missing before the first"),
    (b"first\0order-10248", "first revision of the stream that was not removed, `u64`; missing if none was removed"),
];

/// A column family. All of them change together in one write batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cf {
    /// Copies of the records by stream and revision, so that loading a stream is one scan.
    Streams,
    /// The last revision of each stream.
    Heads,
    /// Positions by event id.
    Ids,
    /// Positions by category.
    Categories,
    /// Positions by event type.
    Types,
    /// Positions by tag.
    Tags,
    /// The claims of unique keys that were not released, by keyed hash.
    Keys,
    /// Rows of side tables.
    Rows,
    /// What the store says of itself.
    Meta,
}

impl Cf {
    /// All column families, in the order in which the document lists them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Streams,
        Self::Heads,
        Self::Ids,
        Self::Categories,
        Self::Types,
        Self::Tags,
        Self::Keys,
        Self::Rows,
        Self::Meta,
    ];

    /// Its name in RocksDB.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Heads => "heads",
            Self::Ids => "ids",
            Self::Categories => "categories",
            Self::Types => "types",
            Self::Tags => "tags",
            Self::Keys => "keys",
            Self::Rows => "rows",
            Self::Meta => "meta",
        }
    }

    /// Key and value for the document.
    #[cfg(test)]
    pub(crate) const fn layout(self) -> (&'static str, &'static str) {
        match self {
            Self::Streams => {
                ("stream, `0x00`, revision `u64`", "position `u64`, number of the segment `u32`, copy of the record")
            }
            Self::Heads => ("stream", "revision `u64` and position `u64` of its last event"),
            Self::Ids => ("event id, 16 bytes", "position `u64`"),
            Self::Categories => (
                "category, `0x00`, first position of a block `u64`",
                "distances of up to 255 further positions, varints",
            ),
            Self::Types => (
                "event type, `0x00`, first position of a block `u64`",
                "distances of up to 255 further positions, varints",
            ),
            Self::Tags => {
                ("tag, `0x00`, first position of a block `u64`", "distances of up to 255 further positions, varints")
            }
            Self::Keys => ("keyed hash of scope and value, 16 bytes", "revision of the claim `u64`, stream"),
            Self::Rows => ("table, `0x00`, key of the row", "value of the row"),
            Self::Meta => ("ASCII text", "see below"),
        }
    }
}
