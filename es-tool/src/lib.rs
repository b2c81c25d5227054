//! The operating system as the command line tools see it:
//!
//! - [`arguments`]: parses the command line;
//! - [`input`]: opens a file of text, also a compressed one;
//! - [`output`]: writes a file completely or not at all;
//! - [`text`]: stored text and tables on a terminal;
//! - [`process`]: the limit of open files, the mode of new files.
//!
//! `es` and the order service use these functions for all of their files and output.

pub mod arguments;
pub mod input;
pub mod output;
pub mod process;
pub mod text;
