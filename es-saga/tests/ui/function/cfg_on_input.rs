#[es_saga::step_function(step = Check, name = "check", undo = "ignore")]
async fn check(number: u64, #[cfg(any())] note: String) -> Result<u64, std::convert::Infallible> {
    Ok(number)
}

fn main() {}
