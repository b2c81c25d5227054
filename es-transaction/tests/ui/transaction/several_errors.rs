#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction(timeout = "soon", protcol = "two-phase", protocol = "one-phase")]
fn book(seats: &Seats, tx: Tx) -> Option<()> {
    Some(())
}

fn main() {}
