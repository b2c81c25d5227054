#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book<'a>(tx: &'a mut Tx, seats: &'a Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

fn main() {}
