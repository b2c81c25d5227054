//! The given-when-then test kit.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::time::Duration;

use es_saga::testing::{GivenSaga, given_saga};
use es_saga::{ErrorClass, Phase, Saga, SagaVerb};
use shop::{Ordered, Reserve, fulfilment, order};

fn paying() -> GivenSaga {
    given_saga(&fulfilment(), &order(2)).when_succeeds("reserve", &2_u64)
}

#[test]
fn a_saga_completes_with_its_output() {
    paying()
        .then_acts(["execute pay"])
        .when_succeeds("pay", &2_u64)
        .when_succeeds("ship", &"parcel")
        .then_output(&"parcel".to_owned())
        .then_events([
            "saga-created",
            "saga-step-succeeded",
            "saga-step-started",
            "saga-step-succeeded",
            "saga-step-started",
            "saga-step-succeeded",
            "saga-completed",
        ]);
}

#[test]
fn a_retry_is_made_after_its_pause_and_the_last_failure_turns_the_saga_back() {
    let failed = paying().when_fails("pay", ErrorClass::Ambiguous, "timed out").then_acts([]);
    let pause = Some(Duration::from_nanos(999_999));
    failed
        .then_wakes_after(pause)
        .when_time_passes(Duration::from_millis(1))
        .then_acts(["execute pay"])
        .when_fails("pay", ErrorClass::Transient, "busy")
        .when_time_passes(Duration::from_millis(2))
        .when_fails("pay", ErrorClass::Transient, "busy")
        // The first attempt may have had its effect.
        .then_acts(["undo pay"])
        .then_reason("step \"pay\" failed: busy")
        .when_undo_fails("pay", ErrorClass::Terminal, "no account")
        .then_phase(Phase::Stuck(es_saga::Direction::Backward))
        .when_operated(SagaVerb::Skip { step: "pay".to_owned(), item: 0, output: None })
        .then_acts(["undo reserve"])
        .when_undone("reserve")
        .then_phase(Phase::Compensated);
}

#[test]
fn an_interrupted_step_is_executed_again_and_undone_if_the_saga_is_cancelled() {
    paying()
        .when_interrupted("pay")
        .then_acts(["execute pay"])
        .when_operated(SagaVerb::Cancel)
        .then_acts(["undo pay"])
        .when_undone("pay")
        .then_acts(["undo reserve"]);
}

#[test]
fn a_saga_turns_back_at_its_deadline() {
    let saga = fulfilment().with_deadline(Duration::from_secs(60));
    given_saga(&saga, &order(2))
        .when_succeeds("reserve", &2_u64)
        .then_wakes_after(Some(Duration::from_secs(60)))
        .when_time_passes(Duration::from_secs(60))
        .then_reason("the deadline has passed")
        .then_acts(["undo reserve"]);
}

#[test]
fn conditions_and_lists_are_computed_from_recorded_values() {
    let graph = |units| {
        let saga = Saga::<(Vec<Ordered>, Ordered), Vec<u64>>::define("many", 1, |saga, input| {
            let orders = saga.local::<Split>(input);
            let stock = saga.node("all").local_each::<Reserve>(orders);
            let _ = saga.node("rich").after(stock).local_if::<Split>(input, |(_, first)| first.units > 5);
            stock
        });
        given_saga(&saga.expect("it is valid"), &(vec![order(1), order(2)], order(units)))
            .when_succeeds("split", &[order(1), order(2)])
            .then_acts(["execute all[0]", "execute all[1]"])
            .when_succeeds("all[1]", &2_u64)
            .then_acts(["execute all[0]"])
            .when_succeeds("all[0]", &1_u64)
    };
    graph(5).then_output(&vec![1_u64, 2]);
    graph(6).then_acts(["execute rich"]).when_succeeds("rich", &Vec::<Ordered>::new()).then_phase(Phase::Completed);
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reserves, waits for three days and an hour more for large orders, and reserves again.
fn trial(units: u64) -> GivenSaga {
    let saga = Saga::<Ordered, u64>::define("trial", 1, |saga, order| {
        let stock = saga.local::<Reserve>(order);
        let over = saga.node("over").after(stock).delay(3 * DAY);
        let grace = saga.node("grace").after(over).delay_if(DAY / 24, order, |order| order.units > 5);
        saga.node("again").after(grace).local::<Reserve>(order)
    });
    given_saga(&saga.expect("it is valid"), &order(units)).then_acts(["execute reserve"])
}

#[test]
fn time_ends_a_delay_once_and_a_delay_whose_condition_does_not_hold_is_omitted() {
    trial(2)
        .when_succeeds("reserve", &2_u64)
        .then_acts([])
        .then_wakes_after(Some(3 * DAY))
        .when_time_passes(2 * DAY)
        .then_acts([])
        .when_time_passes(1000 * DAY)
        .then_acts(["execute again"])
        .when_succeeds("again", &2_u64)
        .then_output(&2_u64)
        .then_events([
            "saga-created",
            "saga-step-succeeded",
            "saga-delay-started",
            "saga-step-succeeded",
            "saga-step-omitted",
            "saga-step-succeeded",
            "saga-completed",
        ]);
    trial(6)
        .when_succeeds("reserve", &6_u64)
        .when_time_passes(3 * DAY)
        .then_wakes_after(Some(DAY / 24))
        .when_time_passes(DAY / 24)
        .then_acts(["execute again"]);
}

#[test]
fn an_operator_skips_a_delay_and_a_saga_that_is_cancelled_does_not_wait() {
    let waiting = trial(2).when_succeeds("reserve", &2_u64);
    let skip = SagaVerb::Skip { step: "over".to_owned(), item: 0, output: None };
    waiting.clone().when_operated(skip).then_acts(["execute again"]);
    waiting
        .when_operated(SagaVerb::Cancel)
        .then_acts(["undo reserve"])
        .then_wakes_after(None)
        .when_undone("reserve")
        .then_phase(Phase::Compensated);
}

/// Returns the list of its input.
struct Split;

impl es_saga::DeclaredStep for Split {
    const NAME: &'static str = "split";
}

impl es_saga::LocalStep for Split {
    type Input = (Vec<Ordered>, Ordered);
    type Output = Vec<Ordered>;
    type Error = shop::ShopError;

    async fn execute(
        &self,
        (orders, _): Self::Input,
        _: &es_saga::StepContext,
    ) -> Result<(Vec<Ordered>, es_core::Commit), shop::ShopError> {
        Ok((orders, es_core::Commit::new()))
    }

    async fn undo(
        &self,
        _: Self::Input,
        _: Vec<Ordered>,
        _: &es_saga::StepContext,
    ) -> Result<es_core::Commit, shop::ShopError> {
        Ok(es_core::Commit::new())
    }
}

#[test]
#[should_panic(expected = "step \"ship\" is not executed now")]
fn an_outcome_that_the_saga_does_not_expect_fails_the_test() {
    let _ = paying().when_succeeds("ship", &"parcel");
}
