// A macro of a facade crate names es-saga through `$crate`.
mod facade {
    pub mod inner {
        pub use es_saga;
    }
}

macro_rules! shop_step {
    ($name:ident, $function:ident, $wire:literal) => {
        #[$crate::facade::inner::es_saga::step_function(
            crate = $crate::facade::inner::es_saga, step = $name, name = $wire, undo = "ignore"
        )]
        async fn $function(number: u64) -> Result<u64, std::convert::Infallible> {
            Ok(number)
        }
    };
}

macro_rules! shop_saga {
    ($name:ident, $step:ident) => {
        $crate::facade::inner::es_saga::saga! {
            saga $name(order: u64) -> u64, crate = $crate::facade::inner::es_saga {
                let checked = $step(order);
                if *checked > 0 { $step(checked) as "again" }
                checked
            }
        }
    };
}

#[derive(facade::inner::es_saga::SagaStep)]
#[saga_step(crate = facade::inner::es_saga, name = "ship")]
struct Ship;

shop_step!(Check, check, "check");
shop_saga!(Checked, Check);

fn main() {
    use facade::inner::es_saga::DeclaredStep;
    assert_eq!((Check::NAME, Ship::NAME), ("check", "ship"));
    assert_eq!(Checked::define().expect("the graph is valid").shape().nodes.len(), 2);
}
