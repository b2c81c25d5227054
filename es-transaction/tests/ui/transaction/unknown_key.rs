#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction(timout = "30s")]
async fn book(tx: &mut Tx, seats: &Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

fn main() {}
