//! Folders and the names in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where clang-sys, which RocksDB's build script finds libclang with, looks.
pub(super) const SEARCHED: &[&str] = if cfg!(target_os = "macos") {
    &[
        "usr/local/opt/llvm*/lib/llvm*/lib",
        "Library/Developer/CommandLineTools/usr/lib",
        "Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
        "usr/local/opt/llvm*/lib",
    ]
} else {
    &[
        "usr/local/llvm*/lib*",
        "usr/local/lib*/*/*",
        "usr/local/lib*/*",
        "usr/local/lib*",
        "usr/lib*/*/*",
        "usr/lib*/*",
        "usr/lib*",
    ]
};

/// Where it does not look, and libclang may be all the same.
pub(super) const UNSEARCHED: &[&str] = &["opt/homebrew/opt/llvm/lib", "opt/llvm*/lib", "usr/local/opt/llvm/lib"];

/// The folders that match one of the patterns, in which each `*` stands for any part of one name.
pub(super) fn expand(root: &Path, patterns: &[&str]) -> Vec<PathBuf> {
    patterns.iter().flat_map(|pattern| expand_one(root, pattern)).collect()
}

fn expand_one(root: &Path, pattern: &str) -> Vec<PathBuf> {
    pattern.split('/').fold(vec![root.to_owned()], |folders, part| {
        let next = folders
            .iter()
            .flat_map(|folder| if part.contains('*') { children(folder, part) } else { vec![folder.join(part)] });
        next.filter(|path| path.is_dir()).collect()
    })
}

/// What is in the folder and matches, in the order of the names, so that the same is found each
/// time.
fn children(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = names(folder).into_iter().filter(|name| matches(pattern, name)).collect::<Vec<_>>();
    found.sort();
    found.into_iter().map(|name| folder.join(name)).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A pattern with at most one `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => pattern == name,
    }
}

/// Whether libclang is in the folder. A link that leads nowhere is not.
pub(in crate::prerequisites) fn has_libclang(folder: &Path) -> bool {
    names(folder).iter().any(|name| is_libclang(name) && folder.join(name).is_file())
}

/// `libclang.so`, `libclang-14.so`, `libclang.so.1`, `libclang-14.so.1`, `libclang.dylib`; but
/// `libclang-cpp.so.14` is another library, with another interface.
pub(super) fn is_libclang(name: &str) -> bool {
    if name.starts_with("libclang-cpp") {
        return false;
    }
    let Some(rest) = name.strip_prefix("libclang") else {
        return false;
    };
    let versioned = rest.starts_with('-') && (rest.ends_with(".so") || rest.contains(".so."));
    rest == ".so" || rest == ".dylib" || rest.starts_with(".so.") || versioned
}

/// Whether clang's own headers are where the libclang in this folder looks for them: in
/// `../lib/clang/<version>/include`.
pub(super) fn has_headers_for(folder: &Path) -> bool {
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let links = names(&real).into_iter().filter(|name| is_libclang(name)).map(|name| real.join(name));
    let targets = links.filter_map(|link| fs::canonicalize(link).ok()?.parent().map(Path::to_owned));
    targets.chain([real.clone()]).any(|folder| {
        let near = ["clang/*/include", "../lib/clang/*/include", "../lib64/clang/*/include"];
        expand(&folder, &near).iter().any(|include| has_headers(include))
    })
}

pub(super) fn has_headers(include: &Path) -> bool {
    ["stddef.h", "stdbool.h"].iter().all(|header| include.join(header).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_has_many_names_and_libclang_cpp_is_none_of_them() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so", "libclang-14.so.14.0.6", "libclang.dylib"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in
            ["libclang-cpp.so", "libclang-cpp.so.14", "libclang-cpp14.so", "libclangAST.a", "libclang.a", "clang"]
        {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_any_part_of_one_name() {
        assert!(matches("llvm-*", "llvm-14"));
        assert!(matches("*", "x86_64-linux-gnu"));
        assert!(matches("lib*", "lib"));
        assert!(!matches("llvm*", "lib"));
        assert!(!matches("a*a", "a"));
    }

    #[test]
    fn patterns_are_expanded_to_folders_in_a_fixed_order() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        for folder in ["usr/lib/llvm-15/lib", "usr/lib/llvm-14/lib", "usr/lib64"] {
            fs::create_dir_all(root.path().join(folder))?;
        }
        fs::write(root.path().join("usr/lib/file"), "")?;
        let expected = ["usr/lib/llvm-14/lib", "usr/lib/llvm-15/lib"].map(|folder| root.path().join(folder));
        assert_eq!(expand(root.path(), &["usr/lib*/*/*"]), expected);
        Ok(())
    }
}
