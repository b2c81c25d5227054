//! The prerequisites of building RocksDB: a C++ compiler and libclang.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;

/// Installs the prerequisites as root, on Debian and its derivatives.
const APT: &str = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q g++ libclang-dev";
const OTHER_PLATFORMS: &str = "install a C++ compiler and libclang with its headers, for example with \
     `dnf install gcc-c++ clang-devel`, `pacman -S gcc clang`, `apk add g++ clang-dev` or `xcode-select --install`";

/// Whether packages may be installed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Permission {
    Install,
    PrintOnly,
}

impl Permission {
    pub(crate) const fn from_flag(no_install: bool) -> Self {
        if no_install { Self::PrintOnly } else { Self::Install }
    }
}

/// How `apt-get` can be run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Apt {
    AsRoot,
    /// Through `sudo` without a password.
    WithSudo,
    /// Only by a person who enters a password.
    NotPermitted,
    NotFound,
}

/// What to do about missing prerequisites.
#[derive(Debug, PartialEq)]
enum Plan {
    Install(CommandLine),
    /// Tell the user what to do.
    Print(String),
}

/// Installs the prerequisites that are missing.
///
/// # Errors
///
/// Fails when a prerequisite is missing and cannot or may not be installed. The message has the command to run.
pub(crate) fn ensure(permission: Permission) -> Result<(), Failure> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    console::heading("prerequisites of RocksDB");
    console::note(&format!("missing: {}", missing.join(", ")));
    match plan(permission, find_apt()) {
        Plan::Install(command) => command.run(),
        Plan::Print(next) => {
            Err(Failure::new(format!("cannot build RocksDB without {}", missing.join(" and "))).next(next))
        }
    }
}

fn plan(permission: Permission, apt: Apt) -> Plan {
    let shell = ["-c", APT].map(str::to_owned);
    match (apt, permission) {
        (Apt::AsRoot, Permission::Install) => Plan::Install(CommandLine::new("sh").args(shell)),
        (Apt::WithSudo, Permission::Install) => Plan::Install(CommandLine::new("sudo").args(["-n", "sh"]).args(shell)),
        (Apt::NotFound, _) => Plan::Print(OTHER_PLATFORMS.to_owned()),
        (Apt::AsRoot, Permission::PrintOnly) => Plan::Print(format!("run `{APT}`")),
        (Apt::WithSudo | Apt::NotPermitted, _) => Plan::Print(format!("run `sudo sh -c '{APT}'`")),
    }
}

fn find_apt() -> Apt {
    match () {
        () if !succeeds("apt-get", &["--version"]) => Apt::NotFound,
        () if succeeds("sh", &["-c", "test $(id -u) -eq 0"]) => Apt::AsRoot,
        () if succeeds("sudo", &["-n", "true"]) => Apt::WithSudo,
        () => Apt::NotPermitted,
    }
}

/// Returns the prerequisites that the build would not find. A path that the user has set is taken as it is.
fn missing() -> Vec<&'static str> {
    let is_set = |name| std::env::var_os(name).is_some();
    let mut missing = Vec::new();
    if !is_set("CXX") && !succeeds("c++", &["--version"]) {
        missing.push("a C++ compiler (`c++`)");
    }
    let roots = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/local/opt/llvm/lib",
        "/Library/Developer/CommandLineTools/usr/lib",
    ];
    if !is_set("LIBCLANG_PATH") && !roots.iter().any(|root| has_libclang(Path::new(root), 2)) {
        missing.push("libclang");
    }
    missing
}

/// Searches a directory and its subdirectories, down to `depth`.
fn has_libclang(directory: &Path, depth: u32) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_libclang(&name) || depth > 0 && path.is_dir() && has_libclang(&path, depth - 1)
    })
}

/// Recognizes `libclang.so`, `libclang-14.so.1` and `libclang.dylib`, but not the C++ interface `libclang-cpp.so`.
fn is_libclang(name: &str) -> bool {
    let is_library = name.contains(".so") || name.ends_with(".dylib");
    is_library && (name.starts_with("libclang.") || name.starts_with("libclang-")) && !name.starts_with("libclang-cpp")
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let status =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_installs_only_with_permission_and_without_a_password() {
        let shown = |plan| match plan {
            Plan::Install(command) => format!("install: {}", command.shown()),
            Plan::Print(next) => next,
        };
        let cases = [
            (Permission::Install, Apt::AsRoot, "install: sh -c 'apt-get"),
            (Permission::Install, Apt::WithSudo, "install: sudo -n sh -c 'apt-get"),
            (Permission::Install, Apt::NotPermitted, "run `sudo sh -c 'apt-get"),
            (Permission::Install, Apt::NotFound, "install a C++ compiler"),
            (Permission::PrintOnly, Apt::AsRoot, "run `apt-get"),
            (Permission::PrintOnly, Apt::WithSudo, "run `sudo sh -c 'apt-get"),
        ];
        for (permission, apt, expected) in cases {
            let shown = shown(plan(permission, apt));
            assert!(shown.starts_with(expected), "{permission:?}, {apt:?}: {shown}");
        }
    }

    #[test]
    fn libclang_has_several_file_names() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so", "libclang-14.so.14.0.6", "libclang.dylib"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so", "libclang-cpp.so.14", "libclangAST.a", "libclang.a", "clang"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
