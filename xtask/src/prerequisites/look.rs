//! Looking for what building RocksDB needs, in the places where its build script will look.

pub(super) mod folders;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::decide::{Compiler, Findings, Libclang};
use super::platform::Platform;

/// The libclang of PyPI that is fetched where the system has none. Its version is part of the
/// folder's name, and the folder is kept, so that cargo is given the same path in each run.
pub(super) const WHEEL: &str = "libclang-18.1.1";
/// Where in it the library is.
pub(super) const NATIVE: &str = "clang/native";

/// The file system and the variables, which a test can make up.
#[derive(Debug)]
pub(super) struct Surroundings {
    root: PathBuf,
    variables: BTreeMap<OsString, OsString>,
}

impl Surroundings {
    pub(super) fn of_this_process() -> Self {
        Self { root: PathBuf::from("/"), variables: std::env::vars_os().collect() }
    }

    pub(super) fn platform(&self) -> Platform {
        if cfg!(target_os = "macos") {
            return Platform::MacOs;
        }
        let text = std::fs::read_to_string(self.root.join("etc/os-release"));
        Platform::from_os_release(&text.unwrap_or_default())
    }

    /// Where the libclang of PyPI is unpacked, if there is a home to have a cache in.
    pub(super) fn wheel_folder(&self) -> Option<PathBuf> {
        let cache = self.variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| self.variable("HOME").map(|home| Path::new(home).join(".cache")))?;
        Some(cache.join("es-framework").join(WHEEL))
    }

    /// The program's full path.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.variable("PATH")?;
        std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    fn folders_in(&self, variable: &str) -> Vec<PathBuf> {
        self.variable(variable).map(|value| std::env::split_paths(value).collect()).unwrap_or_default()
    }

    /// What the program prints on its first line.
    fn first_line(&self, program: &Path, arg: &str) -> Option<PathBuf> {
        let mut command = Command::new(program);
        command.arg(arg).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.env_clear().envs(&self.variables).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.lines().next().map(|line| PathBuf::from(line.trim())))?
    }
}

/// Looks for everything.
pub(super) fn look(surroundings: &Surroundings) -> Findings {
    let (compiler, program) = compiler(surroundings);
    let wheel = surroundings.wheel_folder().map(|folder| folder.join(NATIVE));
    Findings {
        compiler,
        libclang: libclang(surroundings),
        wheel: wheel.filter(|folder| folders::has_libclang(folder)),
        compiler_headers: program.and_then(|program| compiler_headers(surroundings, &program)),
        own_clang_args: surroundings.variable("BINDGEN_EXTRA_CLANG_ARGS").is_some(),
    }
}

/// `CXX`, else `c++`: these the build takes by itself. It has to be told about `g++` and `clang++`.
fn compiler(surroundings: &Surroundings) -> (Compiler, Option<PathBuf>) {
    if let Some(own) = surroundings.variable("CXX") {
        // It may come with a wrapper or with arguments: `ccache g++`.
        let own = own.to_string_lossy();
        let program = own.split_whitespace().next().and_then(|name| program_at(surroundings, name));
        return (program.as_ref().map_or(Compiler::None, |_| Compiler::Found), program);
    }
    if let Some(program) = surroundings.program("c++") {
        return (Compiler::Found, Some(program));
    }
    for name in ["g++", "clang++"] {
        if let Some(program) = surroundings.program(name) {
            return (Compiler::Other(name.to_owned()), Some(program));
        }
    }
    (Compiler::None, None)
}

fn program_at(surroundings: &Surroundings, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.is_absolute() { path.is_file().then(|| path.to_owned()) } else { surroundings.program(name) }
}

/// GCC and clang name the same folder for this: the one of their own headers.
fn compiler_headers(surroundings: &Surroundings, compiler: &Path) -> Option<PathBuf> {
    let folder = surroundings.first_line(compiler, "-print-file-name=include")?;
    (folder.is_absolute() && folders::has_headers(&folder)).then_some(folder)
}

/// `LIBCLANG_PATH` alone if it is set, else all the places that the build looks at, else some that
/// it does not.
fn libclang(surroundings: &Surroundings) -> Libclang {
    if let Some(path) = surroundings.variable("LIBCLANG_PATH").map(PathBuf::from) {
        let folder = if path.is_file() { path.parent().map(Path::to_owned) } else { Some(path.clone()) };
        return match folder.filter(|folder| folders::has_libclang(folder)) {
            Some(folder) => Libclang::Found { headers: headers_near(surroundings, &[folder]) },
            None => Libclang::NotAt(path),
        };
    }
    let found = with_libclang(searched(surroundings));
    if !found.is_empty() {
        return Libclang::Found { headers: headers_near(surroundings, &found) };
    }
    match with_libclang(folders::expand(&surroundings.root, folders::UNSEARCHED)).into_iter().next() {
        Some(folder) => {
            Libclang::Elsewhere { headers: headers_near(surroundings, std::slice::from_ref(&folder)), folder }
        }
        None => Libclang::None,
    }
}

/// The folders that the build looks for libclang in.
fn searched(surroundings: &Surroundings) -> Vec<PathBuf> {
    let config = surroundings.variable("LLVM_CONFIG_PATH").map(PathBuf::from);
    let config = config.or_else(|| surroundings.program("llvm-config"));
    let prefix = config.and_then(|config| surroundings.first_line(&config, "--prefix"));
    let mut folders: Vec<_> = prefix.iter().flat_map(|prefix| [prefix.join("lib"), prefix.join("lib64")]).collect();
    folders.extend(surroundings.folders_in("LD_LIBRARY_PATH"));
    folders.extend(surroundings.folders_in("LIBRARY_PATH"));
    folders.extend(folders::expand(&surroundings.root, folders::SEARCHED));
    folders
}

fn with_libclang(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    folders.into_iter().filter(|folder| folders::has_libclang(folder)).collect()
}

/// libclang finds its headers from where it is itself; failing that, the build asks the program
/// `clang`.
fn headers_near(surroundings: &Surroundings, folders: &[PathBuf]) -> bool {
    let by_clang = || {
        let clang = surroundings.program("clang")?;
        let resources = surroundings.first_line(&clang, "-print-resource-dir")?;
        Some(folders::has_headers(&resources.join("include")))
    };
    folders.iter().any(|folder| folders::has_headers_for(folder)) || by_clang().unwrap_or(false)
}

#[cfg(test)]
mod tests;
