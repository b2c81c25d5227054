//! What to do about what was found: plain functions of values.

use std::fmt;
use std::path::PathBuf;

/// What was found on the machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Findings {
    pub(super) compiler: Compiler,
    pub(super) libclang: Libclang,
    /// Where the libclang of PyPI was unpacked by an earlier run.
    pub(super) wheel: Option<PathBuf>,
    /// `stddef.h` and its like, as they come with the C++ compiler.
    pub(super) compiler_headers: Option<PathBuf>,
    /// Arguments for libclang that the person has set (`BINDGEN_EXTRA_CLANG_ARGS`): they know where
    /// the headers are.
    pub(super) own_clang_args: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Compiler {
    /// The one that the build will take by itself.
    Found,
    /// One that the build will not take unless it is told to (`CXX`).
    Other(String),
    None,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Libclang {
    /// Where the build will look by itself.
    Found {
        headers: bool,
    },
    /// Where the build will not look unless it is told to (`LIBCLANG_PATH`).
    Elsewhere {
        folder: PathBuf,
        headers: bool,
    },
    /// `LIBCLANG_PATH` is set, and then nothing else is looked at, but there is no libclang in it.
    NotAt(PathBuf),
    None,
}

/// By what means something can be installed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Means {
    pub(super) apt: Option<Apt>,
    /// Python, to fetch the libclang of PyPI.
    pub(super) python: bool,
}

impl Means {
    pub(super) const NONE: Self = Self { apt: None, python: false };
}

/// As whom `apt-get` is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Apt {
    Root,
    Sudo,
}

/// What this run has tried already. Nothing is tried twice.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tried {
    pub(super) apt: bool,
    pub(super) wheel: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// Go on, with these variables for cargo.
    Ready(Vec<(String, String)>),
    Apt(Apt),
    Wheel,
    /// Nothing can be done from here.
    Tell(Vec<Missing>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Missing {
    Compiler,
    Libclang,
    LibclangAt(PathBuf),
    Headers,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(f, "a C++ compiler"),
            Self::Libclang => write!(f, "libclang"),
            Self::LibclangAt(path) => write!(f, "libclang at LIBCLANG_PATH={}", path.display()),
            Self::Headers => write!(f, "clang's own headers (stddef.h, stdbool.h)"),
        }
    }
}

impl Findings {
    /// What stands in the way of building RocksDB.
    pub(super) fn missing(&self) -> Vec<Missing> {
        if let Libclang::NotAt(path) = &self.libclang {
            return vec![Missing::LibclangAt(path.clone())];
        }
        let libclang = self.libclang != Libclang::None || self.wheel.is_some();
        let mut missing = Vec::new();
        if self.compiler == Compiler::None {
            missing.push(Missing::Compiler);
        }
        if !libclang {
            missing.push(Missing::Libclang);
        }
        // Without a compiler its headers cannot be there either, and installing it brings them.
        if libclang && self.compiler != Compiler::None && !self.has_headers() {
            missing.push(Missing::Headers);
        }
        missing
    }

    fn has_headers(&self) -> bool {
        self.libclang.has_headers() || self.own_clang_args || self.compiler_headers.is_some()
    }

    /// The variables without which cargo would not find what was found.
    fn variables(&self) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        if let Compiler::Other(name) = &self.compiler {
            set("CXX", name.clone());
        }
        match (&self.libclang, &self.wheel) {
            (Libclang::Elsewhere { folder, .. }, _) | (Libclang::None, Some(folder)) => {
                set("LIBCLANG_PATH", folder.to_string_lossy().into_owned());
            }
            _ => {}
        }
        if let (false, false, Some(headers)) =
            (self.libclang.has_headers(), self.own_clang_args, &self.compiler_headers)
        {
            set("BINDGEN_EXTRA_CLANG_ARGS", format!("-I{}", headers.display()));
        }
        variables
    }
}

impl Libclang {
    fn has_headers(&self) -> bool {
        matches!(self, Self::Found { headers: true } | Self::Elsewhere { headers: true, .. })
    }
}

/// What to do next.
///
/// `apt-get` comes first, as it brings all that is needed; the wheel brings libclang alone, and so
/// is of no use where there is no compiler.
pub(super) fn decide(findings: &Findings, means: Means, tried: Tried) -> Plan {
    let missing = findings.missing();
    match (missing.as_slice(), means.apt) {
        ([], _) => Plan::Ready(findings.variables()),
        ([Missing::LibclangAt(_)], _) => Plan::Tell(missing),
        (_, Some(apt)) if !tried.apt => Plan::Apt(apt),
        ([Missing::Libclang], _) if means.python && !tried.wheel => Plan::Wheel,
        _ => Plan::Tell(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_MEANS: Means = Means { apt: Some(Apt::Root), python: true };
    const UNTRIED: Tried = Tried { apt: false, wheel: false };
    const APT_TRIED: Tried = Tried { apt: true, wheel: false };

    fn complete() -> Findings {
        Findings {
            compiler: Compiler::Found,
            libclang: Libclang::Found { headers: true },
            wheel: None,
            compiler_headers: Some("/gcc/include".into()),
            own_clang_args: false,
        }
    }

    fn without_libclang() -> Findings {
        Findings { libclang: Libclang::None, ..complete() }
    }

    fn ready(variables: &[(&str, &str)]) -> Plan {
        Plan::Ready(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn where_nothing_is_missing_nothing_is_set() {
        assert_eq!(decide(&complete(), ALL_MEANS, UNTRIED), ready(&[]));
        let with_an_old_wheel = Findings { wheel: Some("/cache/native".into()), ..complete() };
        assert_eq!(decide(&with_an_old_wheel, ALL_MEANS, UNTRIED), ready(&[]));
    }

    #[test]
    fn apt_comes_first_whatever_is_missing() {
        for findings in [
            Findings { compiler: Compiler::None, ..complete() },
            without_libclang(),
            Findings { libclang: Libclang::Found { headers: false }, compiler_headers: None, ..complete() },
        ] {
            assert_eq!(decide(&findings, ALL_MEANS, UNTRIED), Plan::Apt(Apt::Root));
        }
    }

    #[test]
    fn the_wheel_is_for_when_apt_is_not_there_or_has_failed() {
        let python_alone = Means { apt: None, python: true };
        assert_eq!(decide(&without_libclang(), python_alone, UNTRIED), Plan::Wheel);
        assert_eq!(decide(&without_libclang(), ALL_MEANS, APT_TRIED), Plan::Wheel);
    }

    #[test]
    fn the_wheel_is_of_no_use_without_a_compiler() {
        let findings = Findings { compiler: Compiler::None, compiler_headers: None, ..without_libclang() };
        let told = Plan::Tell(vec![Missing::Compiler, Missing::Libclang]);
        assert_eq!(decide(&findings, Means { apt: None, python: true }, UNTRIED), told);
    }

    #[test]
    fn nothing_is_tried_twice() {
        let tried = Tried { apt: true, wheel: true };
        assert_eq!(decide(&without_libclang(), ALL_MEANS, tried), Plan::Tell(vec![Missing::Libclang]));
    }

    #[test]
    fn where_nothing_may_be_installed_the_person_is_told() {
        assert_eq!(decide(&without_libclang(), Means::NONE, UNTRIED), Plan::Tell(vec![Missing::Libclang]));
    }

    #[test]
    fn an_unpacked_wheel_is_used_with_the_headers_of_the_compiler() {
        let findings = Findings { wheel: Some("/cache/native".into()), ..without_libclang() };
        let variables = [("LIBCLANG_PATH", "/cache/native"), ("BINDGEN_EXTRA_CLANG_ARGS", "-I/gcc/include")];
        assert_eq!(decide(&findings, Means::NONE, UNTRIED), ready(&variables));
    }

    #[test]
    fn a_libclang_without_headers_takes_those_of_the_compiler() {
        let findings = Findings { libclang: Libclang::Found { headers: false }, ..complete() };
        assert_eq!(decide(&findings, ALL_MEANS, UNTRIED), ready(&[("BINDGEN_EXTRA_CLANG_ARGS", "-I/gcc/include")]));
        let own = Findings { own_clang_args: true, ..findings };
        assert_eq!(decide(&own, ALL_MEANS, UNTRIED), ready(&[]));
    }

    #[test]
    fn a_compiler_and_a_libclang_off_the_beaten_track_are_pointed_at() {
        let libclang = Libclang::Elsewhere { folder: "/opt/homebrew/opt/llvm/lib".into(), headers: true };
        let findings = Findings { compiler: Compiler::Other("clang++".to_owned()), libclang, ..complete() };
        let variables = [("CXX", "clang++"), ("LIBCLANG_PATH", "/opt/homebrew/opt/llvm/lib")];
        assert_eq!(decide(&findings, Means::NONE, UNTRIED), ready(&variables));
    }

    #[test]
    fn a_wrong_libclang_path_is_for_the_person_to_mend() {
        let findings = Findings { libclang: Libclang::NotAt("/opt/none".into()), ..complete() };
        let told = Plan::Tell(vec![Missing::LibclangAt("/opt/none".into())]);
        assert_eq!(decide(&findings, ALL_MEANS, UNTRIED), told);
    }
}
