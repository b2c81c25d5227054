#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(tx: &mut Tx, seats: &Seats) -> Option<u64> {
    tx.enlist_participant(seats, &2).ok().map(|()| 2)
}

fn main() {}
