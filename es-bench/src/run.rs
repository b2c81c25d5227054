//! A run: selects workloads and contenders, measures them and publishes the results.

use std::sync::Arc;

use crate::bench::Bench;
use crate::cli::Arguments;
use crate::contender::{Contender, Role, Shape};
use crate::failure::Failure;
use crate::limits::{BareFile, BareLog, EachThread, OneThread};
use crate::ours::{self, EsMemory, EsRocksDb};
use crate::publish::publish;
use crate::report::Report;
use crate::workload::{self, Workload, footprint};

/// Runs the benchmark as the arguments specify.
pub(crate) fn run(arguments: &Arguments, peers: Vec<Box<dyn Contender>>) -> Result<(), Failure> {
    if let Some(file) = &arguments.from {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| Failure::caused_by(format!("read {}", file.display()), &error))?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| Failure::caused_by(format!("read {} as the JSON of a run", file.display()), &error))?;
        return publish(arguments, report);
    }
    let workloads = chosen_workloads(&arguments.only)?;
    let contenders = chosen_contenders(&arguments.contender, peers)?;
    if arguments.list {
        list(&contenders);
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::caused_by("start a runtime", &error))?;
    let mut bench = Bench::new(arguments, contenders)?;
    if let Some(shape) = &arguments.footprint {
        let asked = arguments.contender.first();
        let contender =
            bench.contenders.iter().find(|contender| Some(contender.name()) == asked.map(String::as_str)).cloned();
        let contender = contender.ok_or_else(|| Failure::new("measure a footprint", "expected one contender"))?;
        return runtime.block_on(async {
            bench.shape = ours::shape(bench.home(), bench.plan.payload).await?;
            println!("\n{}", footprint::in_this_process(&bench, &contender, shape).await?);
            Ok(())
        });
    }
    // On a worker thread, as the handlers of a service: there, a store may read without waking another thread.
    let measured = runtime.block_on(runtime.spawn(async move { measure(&mut bench, &workloads).await }));
    let report = measured.map_err(|error| Failure::caused_by("run the workloads", &error))??;
    publish(arguments, report)
}

async fn measure(bench: &mut Bench, workloads: &[Box<dyn Workload>]) -> Result<Report, Failure> {
    bench.shape = ours::shape(bench.home(), bench.plan.payload).await?;
    let Shape { commit, event } = bench.shape;
    let shape =
        format!(" es-rocksdb writes {event} bytes per event and {commit} per commit to its log, as do the limits.");
    bench.report.form.push_str(&shape);
    for workload in workloads {
        workload.run(bench).await?;
    }
    for store in std::mem::take(&mut bench.filled_stores) {
        store.opened.close().await?;
    }
    Ok(std::mem::take(&mut bench.report))
}

fn chosen_workloads(names: &[String]) -> Result<Vec<Box<dyn Workload>>, Failure> {
    let all = workload::all();
    let known: Vec<_> = all.iter().map(|workload| workload.name()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let reason = format!("expected one of {}, found {unknown:?}", known.join(", "));
        return Err(Failure::new("choose workloads", reason));
    }
    Ok(all
        .into_iter()
        .filter(|workload| names.is_empty() || names.iter().any(|name| name == workload.name()))
        .collect())
}

/// Returns all contenders, or those with these names and the limits.
fn chosen_contenders(names: &[String], peers: Vec<Box<dyn Contender>>) -> Result<Vec<Arc<dyn Contender>>, Failure> {
    let mut all: Vec<Arc<dyn Contender>> = vec![
        Arc::new(EsRocksDb),
        Arc::new(EsMemory),
        Arc::new(EachThread),
        Arc::new(OneThread),
        Arc::new(BareFile),
        Arc::new(BareLog),
    ];
    all.extend(peers.into_iter().map(Arc::from));
    let known: Vec<_> = all.iter().map(|contender| contender.name()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let reason = format!("expected one of {}, found {unknown:?}", known.join(", "));
        return Err(Failure::new("choose contenders", reason));
    }
    let is_chosen = |contender: &Arc<dyn Contender>| {
        names.is_empty() || contender.role() == Role::Limit || names.iter().any(|name| name == contender.name())
    };
    Ok(all.into_iter().filter(is_chosen).collect())
}

fn list(contenders: &[Arc<dyn Contender>]) {
    println!("workloads:");
    let workloads = workload::all();
    for workload in &workloads {
        println!("  {:<16} {}", workload.name(), workload.about());
    }
    println!("contenders:");
    for contender in contenders {
        println!("  {:<16} {}", contender.name(), contender.about());
        for workload in workloads.iter().filter(|workload| !workload.is_ours_only()) {
            if let Err(reason) = contender.offers(workload.task()) {
                println!("  {:<16}   not {}: {reason}", "", workload.name());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_known_names() {
        let refused = chosen_workloads(&["lode".into()]).err().unwrap().to_string();
        assert!(refused.contains("load") && refused.contains("\"lode\""), "{refused}");
        let refused = chosen_contenders(&["umadb".into()], Vec::new()).err().unwrap().to_string();
        assert!(refused.contains("es-rocksdb"), "{refused}");
        let chosen = chosen_contenders(&["es-memory".into()], Vec::new()).unwrap();
        let names: Vec<_> = chosen.iter().map(|contender| contender.name()).collect();
        assert_eq!(names, ["es-memory", "rocksdb-each", "rocksdb-one", "bare-file", "es-log"]);
    }
}
