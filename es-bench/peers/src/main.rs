//! The benchmark with peers from crates.io. `cargo xtask bench` builds and runs it.

mod cqrs;
mod evento;
mod fjall;
mod postgres;
mod redb;
mod sierradb;
mod steno;
mod tephra;
mod umadb;
#[cfg_attr(not(feature = "umadb-server"), path = "umadb_server_not_built.rs")]
mod umadb_server;

use std::process::ExitCode;

use es_bench::{Contender, Failure};

fn main() -> ExitCode {
    let peers: Vec<Box<dyn Contender>> = vec![
        Box::new(umadb::UmaDb),
        Box::new(umadb_server::UmaDbServer),
        Box::new(tephra::Tephra),
        Box::new(sierradb::SierraDb),
        Box::new(evento::Evento),
        Box::new(cqrs::CqrsEs::default()),
        Box::new(fjall::Fjall),
        Box::new(redb::Redb),
        Box::new(steno::Steno),
    ];
    es_bench::main(peers)
}

/// Creates the failure of an action of a peer.
fn failed<E: std::fmt::Display>(action: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::new(action, error)
}

/// Returns the version of a crate in the lock file of this one.
fn version(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")).unwrap_or("?\"");
    format!("{name} {}", version.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_come_from_the_lock_file() {
        let version = super::version("redb");
        assert!(version.starts_with("redb 4."), "{version}");
        assert_eq!(super::version("no-such-crate"), "no-such-crate ?");
    }
}
