//! Machines made up in a temporary folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

type Result = std::io::Result<()>;

/// A machine with nothing on it but a shell to run scripts with.
struct Machine {
    folder: tempfile::TempDir,
    surroundings: Surroundings,
}

impl Machine {
    fn empty() -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().to_owned();
        let variables = [("PATH", root.join("usr/bin")), ("HOME", root.join("home"))];
        let variables = variables.map(|(name, value)| (name.into(), value.into_os_string())).into();
        Ok(Self { folder, surroundings: Surroundings { root, variables } })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn file(self, path: &str, text: &str) -> std::io::Result<Self> {
        let file = self.path(path);
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&file, text)?;
        Ok(self)
    }

    /// A program that prints one line.
    fn program(self, name: &str, prints: &Path) -> std::io::Result<Self> {
        let path = format!("usr/bin/{name}");
        let machine = self.file(&path, &format!("#!/bin/sh\necho '{}'\n", prints.display()))?;
        fs::set_permissions(machine.path(&path), fs::Permissions::from_mode(0o755))?;
        Ok(machine)
    }

    fn headers(self, folder: &str) -> std::io::Result<Self> {
        self.file(&format!("{folder}/stddef.h"), "")?.file(&format!("{folder}/stdbool.h"), "")
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.surroundings.variables.insert(name.into(), value.into());
        self
    }

    fn look(&self) -> Findings {
        look(&self.surroundings)
    }
}

#[test]
fn an_empty_machine_has_nothing() -> Result {
    let expected = Findings {
        compiler: Compiler::None,
        libclang: Libclang::None,
        wheel: None,
        compiler_headers: None,
        own_clang_args: false,
    };
    assert_eq!(Machine::empty()?.look(), expected);
    Ok(())
}

#[test]
fn what_debian_installs_is_complete() -> Result {
    let machine = Machine::empty()?
        .headers("usr/lib/gcc/include")?
        .file("usr/lib/llvm-14/lib/libclang-14.so.1", "")?
        .headers("usr/lib/llvm-14/lib/clang/14.0.6/include")?;
    let headers = machine.path("usr/lib/gcc/include");
    let findings = machine.program("c++", &headers)?.look();
    assert_eq!(findings.missing(), []);
    assert_eq!(findings.libclang, Libclang::Found { headers: true });
    assert_eq!(findings.compiler_headers, Some(headers));
    Ok(())
}

#[test]
fn headers_are_found_through_the_link_that_libclang_is() -> Result {
    let machine = Machine::empty()?
        .file("usr/lib/llvm-14/lib/libclang-14.so.1", "")?
        .headers("usr/lib/llvm-14/lib/clang/14/include")?
        .file("usr/lib/x86_64-linux-gnu/other.so", "")?;
    let link = machine.path("usr/lib/x86_64-linux-gnu/libclang-14.so.1");
    std::os::unix::fs::symlink("../llvm-14/lib/libclang-14.so.1", &link)?;
    assert!(folders::has_headers_for(&machine.path("usr/lib/x86_64-linux-gnu")));
    Ok(())
}

#[test]
fn the_cpp_library_does_not_count() -> Result {
    let machine = Machine::empty()?.file("usr/lib/x86_64-linux-gnu/libclang-cpp.so.14", "")?;
    assert_eq!(machine.look().libclang, Libclang::None);
    Ok(())
}

#[test]
fn a_libclang_without_headers_is_found_to_be_so() -> Result {
    let machine = Machine::empty()?.file("usr/lib64/libclang.so.17", "")?;
    assert_eq!(machine.look().libclang, Libclang::Found { headers: false });
    let machine = machine.headers("resources/include")?;
    let resources = machine.path("resources");
    assert_eq!(machine.program("clang", &resources)?.look().libclang, Libclang::Found { headers: true });
    Ok(())
}

#[test]
fn llvm_config_is_asked() -> Result {
    let machine = Machine::empty()?.file("elsewhere/lib/libclang.so", "")?;
    let prefix = machine.path("elsewhere");
    assert_eq!(machine.program("llvm-config", &prefix)?.look().libclang, Libclang::Found { headers: false });
    Ok(())
}

#[test]
fn libclang_path_is_looked_at_alone() -> Result {
    let machine = Machine::empty()?.file("usr/lib/libclang.so", "")?.file("mine/libclang.so", "")?;
    let (wrong, mine) = (machine.path("wrong"), machine.path("mine/libclang.so"));
    let machine = machine.variable("LIBCLANG_PATH", &wrong);
    assert_eq!(machine.look().libclang, Libclang::NotAt(wrong));
    let machine = machine.variable("LIBCLANG_PATH", &mine);
    assert_eq!(machine.look().libclang, Libclang::Found { headers: false });
    Ok(())
}

#[test]
fn a_compiler_is_found_under_other_names_and_behind_a_wrapper() -> Result {
    let machine = Machine::empty()?.program("g++", Path::new("include"))?;
    assert_eq!(machine.look().compiler, Compiler::Other("g++".to_owned()));
    assert_eq!(machine.look().compiler_headers, None);
    let machine = machine.variable("CXX", "g++ -pipe");
    assert_eq!(machine.look().compiler, Compiler::Found);
    assert_eq!(machine.variable("CXX", "icpc").look().compiler, Compiler::None);
    Ok(())
}

#[test]
fn an_unpacked_wheel_is_found_in_the_cache() -> Result {
    let native = format!("home/.cache/es-framework/{WHEEL}/clang/native");
    let machine = Machine::empty()?.file(&format!("{native}/libclang.so"), "")?;
    assert_eq!(machine.look().wheel, Some(machine.path(&native)));
    Ok(())
}
