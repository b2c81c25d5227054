// Generated code needs no imports, also where names of the prelude are other things.
#![no_implicit_prelude]
#![allow(dead_code, non_snake_case, non_upper_case_globals)]

struct Result;
struct Option;
struct Transactions;
fn Ok() {}
const tx: () = ();

#[::es_transaction::transaction(timeout = "1s", protocol = "two-phase")]
async fn wait(_: &mut ::es_transaction::Tx) -> ::std::result::Result<(), ::es_transaction::EnlistError> {
    let () = tx;
    ::std::result::Result::Ok(())
}

fn main() {}
