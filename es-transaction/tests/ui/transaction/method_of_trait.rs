#[path = "../parties.rs"]
mod parties;

use parties::*;

trait Book {
    #[transaction]
    async fn book(&self, tx: &mut Tx) -> Result<(), EnlistError>;
}

fn main() {}
