//! The demo: the order service runs on a generated sample.

use std::fs;
use std::path::Path;

use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;
use crate::sample;
use crate::workspace::Workspace;

const STORE: &str = "store";

const IMPORT: &[&str] = &["import", "--orders", "orders.csv", "--lines", "lines.csv", "--products", "products.csv"];

/// A call of the order service.
struct Step {
    title: &'static str,
    args: &'static [&'static str],
    /// Whether the step must leave all orders unchanged.
    changes_nothing: bool,
}

const STEPS: [Step; 11] = [
    step("import twelve orders, their lines and five products", IMPORT),
    Step { changes_nothing: true, ..step("import the same files again: nothing changes", IMPORT) },
    step("show an order that has not been shipped", &["show", "A-1009"]),
    step("approve it", &["approve", "A-1009"]),
    step("ship it", &["ship", "A-1009"]),
    step("deliver it", &["deliver", "A-1009"]),
    step("cancel another order", &["cancel", "A-1012", "--reason", "ordered twice by mistake"]),
    step("show the delivered order", &["show", "A-1009"]),
    step("show all events of the delivered order", &["history", "A-1009"]),
    step("report totals from the read models, and compare them with the log", &["report", "--verify"]),
    step("list the projections that maintain the read models", &["projections", "list"]),
];

const fn step(title: &'static str, args: &'static [&'static str]) -> Step {
    Step { title, args, changes_nothing: false }
}

/// Writes the sample and runs the steps in order; stops at the first failure.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    console::heading("building the order service");
    let program = workspace.build_programs()?.order_service;
    let directory = workspace.target().join("demo");
    prepare(&directory)?;

    console::note(&format!("\nthe sample and the store are in {}", directory.display()));
    let order_service = CommandLine::at("order-service", program).args(["--data", STORE]).directory(&directory);
    STEPS.iter().try_for_each(|step| run_step(step, &order_service))
}

fn run_step(step: &Step, order_service: &CommandLine) -> Result<(), Failure> {
    let line = order_service.clone().args(step.args.iter().copied());
    console::demo_step(step.title, &line.shown());
    if !step.changes_nothing {
        return line.run_quietly();
    }
    let report = order_service.clone().args(["report", "--json"]);
    let before = report.capture()?;
    line.run_quietly()?;
    require_unchanged(&before, &report.capture()?)
}

/// Compares two reports. Empty reports are an error: they would be equal in any case.
fn require_unchanged(before: &str, after: &str) -> Result<(), Failure> {
    if before.trim().is_empty() {
        return Err(Failure::new("expected `report --json` to report the orders, found nothing"));
    }
    if before != after {
        let message = format!("the second import changed the report, from\n{before}to\n{after}");
        return Err(Failure::new(message).next("run `history` for the orders that differ"));
    }
    Ok(())
}

/// Creates the directory with the sample, and removes the store of an earlier demo.
fn prepare(directory: &Path) -> Result<(), Failure> {
    let store = directory.join(STORE);
    if store.exists() {
        fs::remove_dir_all(&store).map_err(|error| Failure::io("remove", &store, &error))?;
    }
    fs::create_dir_all(directory).map_err(|error| Failure::io("create", directory, &error))?;
    sample::write(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demo_starts_without_a_store() -> Result<(), Box<dyn std::error::Error>> {
        let target = tempfile::tempdir()?;
        let directory = target.path().join("demo");
        prepare(&directory)?;
        fs::create_dir(directory.join(STORE))?;
        prepare(&directory)?;
        assert!(!directory.join(STORE).exists());
        assert!(directory.join("orders.csv").is_file());
        Ok(())
    }

    #[test]
    fn steps_name_orders_and_files_of_the_sample() {
        let is_in_sample =
            |arg: &str| sample::FILES.iter().any(|(name, text)| *name == arg || text.contains(&format!("\n{arg},")));
        for arg in STEPS.iter().flat_map(|step| step.args) {
            assert!(is_in_sample(arg) || !(arg.starts_with("A-") || arg.ends_with(".csv")), "{arg}");
        }
    }

    #[test]
    fn empty_and_changed_reports_are_errors() {
        assert_eq!(require_unchanged("{\"orders\":12}", "{\"orders\":12}"), Ok(()));
        assert!(require_unchanged("{\"orders\":12}", "{\"orders\":24}").is_err());
        assert!(require_unchanged("", "").is_err());
    }
}
