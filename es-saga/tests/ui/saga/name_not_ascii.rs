use std::convert::Infallible;

#[es_saga::step_function(step = Check, name = "check", undo = "ignore")]
async fn check(number: u64) -> Result<u64, Infallible> {
    Ok(number)
}

es_saga::saga! {
    saga Überweisung(number: u64) -> u64 {
        Check(number)
    }
}

es_saga::saga! {
    saga Überweisung2(number: u64) -> u64, name = "transfer" {
        Check(number)
    }
}

fn main() {
    assert_eq!(Überweisung2::NAME, "transfer");
}
