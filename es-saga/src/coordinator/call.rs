//! One call of a step.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use es_core::model::{Context, CorrelationId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use crate::coordinator::metrics::StepMetrics;
use crate::failure::{ErrorClass, StepFailure};
use crate::graph::{NodeCode, Recorded, Returned, StepInstance};
use crate::hooks::HookAction;
use crate::id::Direction;
use crate::instance::{SagaInstance, Unit};
use crate::shape::Effect;
use crate::step::StepContext;

/// A call that has ended and is not recorded yet.
pub(super) struct Finished {
    pub(super) unit: Unit,
    pub(super) direction: Direction,
    pub(super) result: Result<Returned, StepFailure>,
    /// Whether a failure is not repeated, whatever the policy of the step.
    pub(super) is_last: bool,
}

/// A call to be made.
pub(super) struct Call<'a> {
    pub(super) code: &'a dyn NodeCode,
    pub(super) step: &'a StepInstance,
    pub(super) permits: Option<Arc<Semaphore>>,
    pub(super) instance: &'a SagaInstance,
    pub(super) unit: Unit,
    pub(super) effect: Effect,
    pub(super) context: StepContext,
    pub(super) correlation: CorrelationId,
    pub(super) hook: HookAction,
    pub(super) metrics: Option<Arc<StepMetrics>>,
}

impl Call<'_> {
    /// Returns the call as a future. A panic and a timeout are failures.
    pub(super) fn start(self) -> BoxFuture<'static, Finished> {
        let span = self.span();
        let Self { code, step, permits, instance, unit, effect, context, correlation, hook, metrics } = self;
        let direction = context.direction;
        let finished = move |result| Finished { unit, direction, result, is_last: false };
        // An effect outside of the store may exist after a call without a result. A local effect does not.
        let lost = if effect == Effect::External { ErrorClass::Ambiguous } else { ErrorClass::Transient };
        let is_discarded = hook == HookAction::TimeOutAfterCall;
        let attempt = |context| attempt(code, step, instance, unit, context);
        let second = match hook {
            HookAction::Fail(failure) => return async move { finished(Err(failure)) }.boxed(),
            HookAction::Repeat => Some(attempt(context.clone())),
            _ => None,
        };
        let first = attempt(context);
        let (context, timeout) = (Context::with_correlation(correlation), code.options().timeout);
        let call = async move {
            // A closed semaphore does not occur; without a permit the call would only be less limited.
            let _permit = match permits {
                Some(permits) => permits.acquire_owned().await.ok(),
                None => None,
            };
            let start = Instant::now();
            let calls = async {
                let result = first.await;
                match second {
                    Some(second) => second.await,
                    None => result,
                }
            };
            let ended = match tokio::time::timeout(timeout, AssertUnwindSafe(calls).catch_unwind()).await {
                Ok(Ok(_)) if is_discarded => Err(StepFailure::new(lost, "the result was discarded by a test")),
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(StepFailure::new(lost, format!("the step panicked: {}", message(&*panic)))),
                Err(_) => Err(StepFailure::new(lost, format!("the step did not return within {timeout:?}"))),
            };
            if let Some(metrics) = metrics {
                metrics.record(start.elapsed(), ended.as_ref().err().map(|failure| failure.class));
            }
            ended
        };
        async move { finished(context.scope(call).await) }.instrument(span).boxed()
    }

    /// Returns the span of the call. Its field `traceparent` is the trace context of the creation of the saga.
    fn span(&self) -> tracing::Span {
        let StepContext { saga, node, item, attempt, direction, key, .. } = &self.context;
        let direction = if *direction == Direction::Forward { "execute" } else { "undo" };
        let (step, traceparent) = (self.code.step(), self.context.traceparent().unwrap_or_default());
        tracing::info_span!("saga_step", %saga, step, node = &**node, item, direction, attempt, %key, traceparent)
    }
}

fn attempt(
    code: &dyn NodeCode,
    step: &StepInstance,
    instance: &SagaInstance,
    unit: Unit,
    context: StepContext,
) -> BoxFuture<'static, Result<Returned, StepFailure>> {
    match context.direction {
        Direction::Forward => code.execute(step, instance, context),
        Direction::Backward => {
            let state = instance.unit(unit);
            let recorded = state.map_or_else(Recorded::default, |state| Recorded {
                compensation: state.compensation.clone(),
                output: state.output.clone(),
            });
            let undone = code.undo(step, instance, recorded, context);
            undone.map(|it| it.map(|commit| Returned { output: Value::Null, commit })).boxed()
        }
    }
}

/// Returns the message of a panic.
pub(super) fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
