#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(seats: &Seats, tx: &mut Tx) -> Result<(), EnlistError> {
    tx.enlist_participant(seats, &2)
}

struct Agency;

impl Agency {
    #[transaction]
    async fn book(&self, seats: &Seats, tx: &mut Tx) -> Result<(), EnlistError> {
        tx.enlist_participant(seats, &2)
    }
}

fn main() {}
