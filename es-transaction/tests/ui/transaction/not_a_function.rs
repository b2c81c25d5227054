#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
struct Book;

fn main() {}
