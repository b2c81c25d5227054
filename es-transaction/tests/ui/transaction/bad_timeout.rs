#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction(timeout = "30 seconds")]
async fn book(tx: &mut Tx, seats: &Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

#[transaction(timeout = 30)]
async fn pay(tx: &mut Tx, seats: &Seats) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

fn main() {}
