//! The tags of the extensions of a record.

#[cfg(test)]
/// The length of the head of an extension: its tag and its length.
pub(crate) const EXTENSION_HEAD_LEN: usize = 2 + 4;
/// The tag of the extension with the dot and the hybrid time of a stamp. An event with a stamp has it.
pub(crate) const STAMP_TAG: u16 = 1;
/// The tag of the extension with the vector clock of a stamp. Missing if the stamp has no clock.
pub(crate) const SEEN_TAG: u16 = 2;
/// The tag of the extension with the command of a stamp. Missing if the stamp has no command.
pub(crate) const COMMAND_TAG: u16 = 3;
/// The tag of the extension with the unique keys. The tag 4 is reserved for replication.
pub(crate) const KEYS_TAG: u16 = 5;
