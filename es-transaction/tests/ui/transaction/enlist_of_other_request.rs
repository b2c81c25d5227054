#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(tx: &mut Tx, seats: &Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, "two")
}

fn main() {}
