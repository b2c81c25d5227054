//! Publishes a report: verdicts on the goals ([`goals`]), tables for the terminal ([`table`]), a chart ([`chart`]),
//! the document ([`document`]) and the rows of the README ([`readme`]).

mod chart;
mod document;
mod goals;
mod readme;
mod table;

use std::path::Path;

use crate::cli::Arguments;
use crate::failure::Failure;
use crate::report::Report;

/// Prints the report and writes the files that the arguments name.
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
    if let Some(file) = &arguments.docs {
        let has_chart = arguments.svg.is_some() && chart.is_some();
        let chart = arguments.svg.as_deref().filter(|_| has_chart).and_then(Path::file_name);
        let chart = chart.map(|name| name.to_string_lossy().into_owned());
        replace(file, &document::section(&report, chart.as_deref()))?;
    }
    if let Some(file) = &arguments.readme {
        replace(file, &readme::table(&report))?;
    }
    Ok(())
}

/// Replaces the text between the markers of a file.
fn replace(file: &Path, section: &str) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::caused_by(format!("read {}", file.display()), &error))?;
    write(file, &document::rewrite(&text, section)?)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    es_tool::output::write(file, text)
        .map_err(|error| Failure::caused_by(format!("write {}", file.display()), &error))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
