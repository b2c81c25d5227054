#[path = "../parties.rs"]
mod parties;

use parties::*;

type EnlistResult<T> = Result<T, EnlistError>;

#[transaction]
async fn book(tx: &mut Tx, seats: &Seats) -> EnlistResult<()> {
    tx.enlist_participant(seats, &2)
}

#[transaction]
async fn print(tx: &mut Tx) -> std::fmt::Result {
    Ok(())
}

fn main() {}
