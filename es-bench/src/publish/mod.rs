//! What is made of a report: verdicts on the goals ([`goals`]), tables ([`table`]), a chart ([`chart`]) and the section of the
//! README ([`readme`]).

mod chart;
mod goals;
mod readme;
mod table;

use std::path::{Path, PathBuf};

use crate::cli::Arguments;
use crate::failure::Failure;
use crate::report::Report;

/// Prints and writes what was asked for.
pub(crate) fn publish(arguments: &Arguments, mut report: Report) -> Result<(), Failure> {
    report.goals = goals::verdicts(&report);
    let json = serde_json::to_string(&report).map_err(|error| Failure::caused_by("write JSON", &error))?;
    match &arguments.json {
        Some(file) if file.as_os_str() == "-" => println!("{json}"),
        Some(file) => write(file, &format!("{json}\n"))?,
        None => {}
    }
    if arguments.json.as_deref() != Some(Path::new("-")) {
        println!("{}", table::all(&report));
    }
    let chart = chart::svg(&report);
    if let Some((file, svg)) = arguments.svg.as_ref().zip(chart.as_ref()) {
        write(file, svg)?;
    }
    if let Some(file) = &arguments.readme {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| Failure::caused_by(format!("read {}", file.display()), &error))?;
        let chart: Option<PathBuf> = arguments.svg.clone().filter(|_| chart.is_some());
        let chart = chart.map(|chart| chart.display().to_string());
        write(file, &readme::rewrite(&text, &readme::section(&report, chart.as_deref()))?)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::caused_by(format!("write {}", file.display()), &error))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
