// A saga under a condition that does not hold generates nothing.
use std::convert::Infallible;

#[es_saga::step_function(step = Check, name = "check", undo = "ignore")]
async fn check(number: u64) -> Result<u64, Infallible> {
    Ok(number)
}

es_saga::saga! {
    #[cfg(any())]
    pub saga Trip(number: u64) -> u64 {
        Check(number)
    }
}

es_saga::saga! {
    #[cfg(not(any()))]
    pub saga Trip(number: u64) -> u64, name = "trip-2" {
        Check(number)
    }
}

fn main() {
    assert_eq!(Trip::NAME, "trip-2");
}
