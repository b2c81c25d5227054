#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(tx: &Tx, seats: &Seats) -> Result<(), EnlistError> {
    Ok(())
}

fn main() {}
