// A macro of a facade crate names es-transaction through `$crate`.
mod facade {
    pub mod inner {
        pub use es_transaction;
    }
}

macro_rules! empty_transaction {
    ($name:ident) => {
        #[$crate::facade::inner::es_transaction::transaction(crate = $crate::facade::inner::es_transaction)]
        pub async fn $name(
            _: &mut $crate::facade::inner::es_transaction::Tx,
        ) -> Result<(), std::convert::Infallible> {
            Ok(())
        }
    };
}

empty_transaction!(nothing);

#[facade::inner::es_transaction::transaction(crate = "facade::inner::es_transaction", timeout = "1s")]
pub async fn quoted(_: &mut facade::inner::es_transaction::Tx) -> Result<(), std::convert::Infallible> {
    Ok(())
}

fn main() {
    let _ = (nothing, quoted);
}
