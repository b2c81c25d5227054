#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(tx: &mut Tx, seats: &Seats) -> Result<impl std::fmt::Display, EnlistError> {
    tx.enlist_participant(seats, &2)?;
    Ok(2)
}

#[transaction]
async fn list(tx: &mut Tx, seats: &Seats) -> Result<Vec<impl std::fmt::Display>, EnlistError> {
    tx.enlist_participant(seats, &2)?;
    Ok(vec![2])
}

fn main() {}
