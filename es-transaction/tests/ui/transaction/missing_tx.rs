#[path = "../parties.rs"]
mod parties;

use parties::*;

#[transaction]
async fn book(seats: &Seats) -> Result<(), EnlistError> {
    Ok(())
}

#[transaction]
async fn nothing() -> Result<(), EnlistError> {
    Ok(())
}

struct Agency;

impl Agency {
    #[transaction]
    async fn book(&self) -> Result<(), EnlistError> {
        Ok(())
    }
}

fn main() {}
