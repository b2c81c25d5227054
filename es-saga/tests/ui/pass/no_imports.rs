// Generated code needs no imports, also where names of the prelude and of bindings are other things.
#![no_implicit_prelude]
#![allow(dead_code, non_upper_case_globals)]

struct Result;
struct Option;
trait Clone {}
fn Ok() {}
fn Some() {}
const context: () = ();
const output: () = ();
const compensation: () = ();
const key: () = ();

#[derive(::std::fmt::Debug, ::thiserror::Error)]
#[error("refused")]
struct Refused;

impl ::es_saga::Classify for Refused {}

#[derive(::es_saga::SagaStep)]
#[saga_step(name = "store", undo = "ignore")]
struct Store;

impl ::es_saga::LocalStep for Store {
    type Input = u64;
    type Output = u64;
    type Error = Refused;

    async fn execute(
        &self,
        cents: u64,
        _: &::es_saga::StepContext,
    ) -> ::std::result::Result<(u64, ::es_core::Commit), Refused> {
        ::std::result::Result::Ok((cents, ::es_core::Commit::new()))
    }

    async fn undo(
        &self,
        _: u64,
        _: u64,
        _: &::es_saga::StepContext,
    ) -> ::std::result::Result<::es_core::Commit, Refused> {
        ::std::result::Result::Ok(::es_core::Commit::new())
    }
}

#[::es_saga::step_function(step = Pay, name = "pay", undo = refund)]
async fn pay(graph: u64, saga: u64) -> ::std::result::Result<u64, Refused> {
    ::std::result::Result::Ok(graph + saga)
}

async fn refund(
    _: ::es_saga::StepKey,
    _: ::std::option::Option<u64>,
    _: &::es_saga::StepContext,
) -> ::std::result::Result<(), Refused> {
    ::std::result::Result::Ok(())
}

// A handle may have a name that the generated code uses, too.
::es_saga::saga! {
    saga Purchase(graph: u64) -> u64 {
        let saga = local Store(graph);
        Pay(graph, saga)
    }
}

fn main() {
    ::std::assert!(Purchase::define().is_ok());
}
