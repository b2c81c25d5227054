#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
fn book(tx: &mut Tx, seats: &Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

fn main() {}
