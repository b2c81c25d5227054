#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(tx: &mut Tx, seats: &Seats) {
    let _ = tx.enlist_participant(seats, &2);
}

fn main() {}
