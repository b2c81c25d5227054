//! Installing what is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::run::CommandLine;
use crate::say;

use super::decide::{Apt, Means};
use super::look::{NATIVE, Surroundings, WHEEL, folders};

const PACKAGES: [&str; 2] = ["g++", "libclang-dev"];

/// By what means this machine lets itself be changed.
pub(super) fn means(surroundings: &Surroundings) -> Means {
    let apt = match surroundings.program("apt-get") {
        Some(_) if is_root() => Some(Apt::Root),
        Some(_) if succeeds("sudo", &["-n", "true"]) => Some(Apt::Sudo),
        _ => None,
    };
    Means { apt, python: surroundings.wheel_folder().is_some() && succeeds("python3", &["-m", "pip", "--version"]) }
}

pub(super) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).stderr(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Installs the compiler and libclang from the system's packages.
pub(super) fn with_apt(apt: Apt) -> Result<(), Failure> {
    apt_get(apt, &["update", "-q"]).run()?;
    apt_get(apt, &["install", "-y", "-q", "--no-install-recommends"]).args(PACKAGES).run()
}

/// `apt-get` in a way in which it asks nothing. Sudo passes no variables on, hence `env`.
fn apt_get(apt: Apt, args: &[&str]) -> CommandLine {
    let quiet = ["DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let line = match apt {
        Apt::Root => CommandLine::new("env"),
        Apt::Sudo => CommandLine::new("sudo").args(["-n", "env"]),
    };
    line.args(quiet).args(args.iter().copied())
}

/// Fetches libclang from PyPI into the cache. What is fetched appears under its name once it is
/// complete.
pub(super) fn wheel(surroundings: &Surroundings) -> Result<(), Failure> {
    let folder = surroundings.wheel_folder().ok_or_else(|| Failure::new("expected HOME to be set, found it unset"))?;
    let partial = folder.with_file_name(format!("{WHEEL}.partial-{}", std::process::id()));
    let fetched = fetch(&partial, &folder);
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|error| Failure::io("remove", &partial, &error))?;
    }
    fetched?;
    say::note(&format!("libclang is in {}", folder.display()));
    Ok(())
}

fn fetch(partial: &Path, folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(partial).map_err(|error| Failure::io("make", partial, &error))?;
    pip_install(&WHEEL.replace("libclang-", "libclang=="), partial).run()?;
    if !folders::has_libclang(&partial.join(NATIVE)) {
        return Err(Failure::new(format!("expected libclang in {NATIVE} of {WHEEL}, found none")));
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| Failure::io("replace", folder, &error))?;
    }
    fs::rename(partial, folder).map_err(|error| Failure::io("make", folder, &error))
}

/// Into a folder of its own, which leaves Python's packages as they are. A wheel is nothing but
/// files: none of its code is run.
fn pip_install(requirement: &str, into: &Path) -> CommandLine {
    CommandLine::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--no-compile", "--only-binary", ":all:", "--target"])
        .args([into.to_string_lossy(), requirement.into()])
        .variable("PIP_ROOT_USER_ACTION", "ignore")
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_asks_nothing_of_anybody() {
        assert_eq!(
            apt_get(Apt::Sudo, &["install", "-y"]).args(PACKAGES).shown(),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y g++ libclang-dev"
        );
        assert_eq!(
            apt_get(Apt::Root, &["update", "-q"]).shown(),
            "env DEBIAN_FRONTEND=noninteractive apt-get update -q"
        );
    }

    #[test]
    fn pip_leaves_the_packages_of_python_alone() {
        let line = pip_install("libclang==18.1.1", Path::new("/cache/partial")).shown();
        assert!(line.ends_with("--only-binary :all: --target /cache/partial libclang==18.1.1"));
    }
}
