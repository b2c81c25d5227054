#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(mut tx: Tx, seats: &Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

fn main() {}
