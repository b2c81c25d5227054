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

// The function that undoes the step comes from the macro, and its arguments from the generated code.
macro_rules! undoable_step {
    ($name:ident, $function:ident, $wire:literal, $undo:ident) => {
        #[$crate::facade::inner::es_saga::step_function(
            crate = $crate::facade::inner::es_saga, step = $name, name = $wire, undo = $undo
        )]
        async fn $function(number: u64) -> Result<u64, std::convert::Infallible> {
            Ok(number)
        }
    };
}

async fn release(
    _: es_saga::StepKey,
    _: Option<u64>,
    _: &es_saga::StepContext,
) -> Result<(), std::convert::Infallible> {
    Ok(())
}

// A macro passes types in invisible groups.
macro_rules! step_of_types {
    ($name:ident, $function:ident, $wire:literal, $number:ty, $context:ty, $result:ty) => {
        #[es_saga::step_function(step = $name, name = $wire, undo = "ignore")]
        async fn $function(number: $number, _context: $context) -> $result {
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
undoable_step!(Reserve, reserve, "reserve", release);
step_of_types!(Count, count, "count", u64, &es_saga::StepContext, Result<u64, std::convert::Infallible>);
shop_saga!(Checked, Check);

fn main() {
    use facade::inner::es_saga::DeclaredStep;
    assert_eq!((Check::NAME, Ship::NAME), ("check", "ship"));
    assert_eq!((Reserve::NAME, Count::NAME), ("reserve", "count"));
    let _: fn(<Count as es_saga::SagaStep>::Input) -> u64 = |input| input;
    assert_eq!(Checked::define().expect("the graph is valid").shape().nodes.len(), 2);
}
