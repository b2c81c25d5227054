//! What building RocksDB needs: a C++ compiler, libclang, and the headers that come with a
//! compiler.
//!
//! ```text
//!   look ──Findings──► decide ──Plan──► install ──► look again …
//!                        │
//!                        ├─ Ready: the variables that cargo needs (most often none)
//!                        └─ Tell:  what is missing, and the command that installs it
//! ```
//!
//! Deciding is apart from looking and doing, so that each situation can be written down as a test
//! without a machine that is in it.

mod decide;
mod install;
mod look;
mod platform;

use crate::failure::Failure;
use crate::say;

use decide::{Means, Missing, Plan, Tried, decide};
use look::Surroundings;
use platform::Platform;

/// Whether something may be installed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Permission {
    Install,
    OnlySay,
}

impl Permission {
    pub(crate) fn from_flag(no_install: bool) -> Self {
        if no_install { Self::OnlySay } else { Self::Install }
    }
}

/// Sees to it that RocksDB can be built, and gives the variables that cargo has to be called with.
///
/// NOTE: where nothing has to be set, nothing is. A variable that comes or goes has RocksDB
/// compiled again.
pub(crate) fn ensure(permission: Permission) -> Result<Vec<(String, String)>, Failure> {
    let surroundings = Surroundings::of_this_process();
    let mut tried = Tried::default();
    loop {
        let findings = look::look(&surroundings);
        let means = match permission {
            Permission::OnlySay => Means::NONE,
            Permission::Install if findings.missing().is_empty() => Means::NONE,
            Permission::Install => install::means(&surroundings),
        };
        let attempt = match decide(&findings, means, tried) {
            Plan::Ready(variables) => return Ok(variables),
            Plan::Tell(missing) => {
                return Err(told(&missing, surroundings.platform(), install::is_root()));
            }
            Plan::Apt(apt) => {
                tried.apt = true;
                announce(&findings.missing());
                install::with_apt(apt)
            }
            Plan::Wheel => {
                tried.wheel = true;
                announce(&findings.missing());
                install::wheel(&surroundings)
            }
        };
        // A failed attempt is no reason to stop: the next one may do, and the last one tells the
        // person what to type.
        if let Err(failure) = attempt {
            say::failure(&failure);
        }
    }
}

fn announce(missing: &[Missing]) {
    say::heading("what building RocksDB needs");
    say::note(&format!("missing: {}", listed(missing)));
}

fn told(missing: &[Missing], platform: Platform, root: bool) -> Failure {
    let failure = Failure::new(format!("cannot build RocksDB: expected {}, found none", listed(missing)));
    match missing {
        [Missing::LibclangAt(_)] => failure.next("unset LIBCLANG_PATH, or set it to the folder that libclang is in"),
        _ => failure.next(platform.command(root)),
    }
}

fn listed(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_one_command() {
        let failure = told(&[Missing::Compiler, Missing::Libclang], Platform::Debian, false);
        assert_eq!(
            failure.to_string(),
            "cannot build RocksDB: expected a C++ compiler and libclang, found none\n  \
             next: sudo apt-get update && sudo apt-get install -y g++ libclang-dev"
        );
    }

    #[test]
    fn a_wrong_path_is_not_mended_by_installing() {
        let failure = told(&[Missing::LibclangAt("/opt/none".into())], Platform::Debian, true);
        assert!(failure.to_string().contains("unset LIBCLANG_PATH"));
    }
}
