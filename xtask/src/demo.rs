//! The order service at work, on a sample made for it.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::run::CommandLine;
use crate::sample;
use crate::say;
use crate::workspace::Workspace;

const STORE: &str = "store";

const IMPORT: &[&str] = &["import", "--orders", "orders.csv", "--lines", "lines.csv", "--products", "products.csv"];

/// One step of the story.
struct Step {
    title: &'static str,
    /// What the order service is called with.
    args: &'static [&'static str],
    /// Whether the orders have to be afterwards what they were before.
    changes_nothing: bool,
}

const STEPS: [Step; 11] = [
    step("import twelve orders, their lines and five products", IMPORT),
    Step { changes_nothing: true, ..step("import the same files again: nothing changes", IMPORT) },
    step("an order that has not been shipped yet", &["show", "A-1009"]),
    step("it is approved", &["approve", "A-1009"]),
    step("it leaves the warehouse", &["ship", "A-1009"]),
    step("it reaches the customer", &["deliver", "A-1009"]),
    step("another order is called off", &["cancel", "A-1012", "--reason", "ordered twice by mistake"]),
    step("the order that was delivered, as it is now", &["show", "A-1009"]),
    step("all that has happened to it", &["history", "A-1009"]),
    step("all orders, counted and summed up by the read models, and compared with the log", &["report", "--verify"]),
    step("the projections that keep the read models up to date", &["projections", "list"]),
];

const fn step(title: &'static str, args: &'static [&'static str]) -> Step {
    Step { title, args, changes_nothing: false }
}

/// Makes the sample, and runs each step; the first that fails ends it.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    say::heading("building the order service");
    let program = workspace.build()?.order_service;
    let folder = workspace.target().join("demo");
    prepare(&folder)?;

    say::note(&format!("\nthe sample and the store are in {}", folder.display()));
    let order_service = CommandLine::at("order-service", program).args(["--data", STORE]).dir(&folder);
    STEPS.iter().try_for_each(|step| take(step, &order_service))
}

fn take(step: &Step, order_service: &CommandLine) -> Result<(), Failure> {
    let line = order_service.clone().args(step.args.iter().copied());
    say::story(step.title, &line.shown());
    if !step.changes_nothing {
        return line.check();
    }
    let report = order_service.clone().args(["report", "--json"]);
    let before = report.read()?;
    line.check()?;
    unchanged(&before, &report.read()?)
}

/// An empty report would be equal to another one, and would show nothing.
fn unchanged(before: &str, after: &str) -> Result<(), Failure> {
    if before.trim().is_empty() {
        return Err(Failure::new("expected `report --json` to report the orders, found nothing"));
    }
    if before != after {
        let what = format!("expected the report to stay the same, found\n{before}before and\n{after}after");
        return Err(Failure::new(what).next("see which orders the second import has changed: `history`"));
    }
    Ok(())
}

/// A folder with the sample and without a store, so that each demo begins at the beginning.
fn prepare(folder: &Path) -> Result<(), Failure> {
    let store = folder.join(STORE);
    if store.exists() {
        fs::remove_dir_all(&store).map_err(|error| Failure::io("remove", &store, &error))?;
    }
    fs::create_dir_all(folder).map_err(|error| Failure::io("make", folder, &error))?;
    sample::write(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demo_begins_without_a_store() -> Result<(), Box<dyn std::error::Error>> {
        let target = tempfile::tempdir()?;
        let folder = target.path().join("demo");
        prepare(&folder)?;
        fs::create_dir(folder.join(STORE))?;
        prepare(&folder)?;
        assert!(!folder.join(STORE).exists());
        assert!(folder.join("orders.csv").is_file());
        Ok(())
    }

    #[test]
    fn the_steps_name_orders_and_files_of_the_sample() {
        let known =
            |arg: &str| sample::FILES.iter().any(|(name, text)| *name == arg || text.contains(&format!("\n{arg},")));
        for arg in STEPS.iter().flat_map(|step| step.args) {
            assert!(known(arg) || !(arg.starts_with("A-") || arg.ends_with(".csv")), "{arg}");
        }
    }

    #[test]
    fn a_report_that_says_nothing_proves_nothing() {
        assert_eq!(unchanged("{\"orders\":12}", "{\"orders\":12}"), Ok(()));
        assert!(unchanged("{\"orders\":12}", "{\"orders\":24}").is_err());
        assert!(unchanged("", "").is_err());
    }
}
