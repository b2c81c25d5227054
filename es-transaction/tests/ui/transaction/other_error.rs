#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(tx: &mut Tx, seats: &Seats) -> Result<(), std::fmt::Error> {
    tx.enlist_participant(seats, &2)?;
    Ok(())
}

fn main() {}
