//! Which command installs what is needed, on which system.

/// A family of systems with one package manager.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Platform {
    Debian,
    Fedora,
    Arch,
    Alpine,
    Suse,
    MacOs,
    Unknown,
}

impl Platform {
    /// Reads `/etc/os-release`: the system's own name first, then those it says it is like.
    pub(super) fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\''])
        };
        let names = value("ID").split_whitespace().chain(value("ID_LIKE").split_whitespace());
        names.filter_map(Self::named).next().unwrap_or(Self::Unknown)
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "debian" | "ubuntu" => Self::Debian,
            "fedora" | "rhel" | "centos" => Self::Fedora,
            "arch" => Self::Arch,
            "alpine" => Self::Alpine,
            "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => Self::Suse,
            _ => return None,
        })
    }

    /// The one command to type.
    pub(super) fn command(self, root: bool) -> String {
        let sudo = if root { "" } else { "sudo " };
        match self {
            Self::Debian => {
                format!("{sudo}apt-get update && {sudo}apt-get install -y g++ libclang-dev")
            }
            Self::Fedora => format!("{sudo}dnf install -y gcc-c++ clang-devel"),
            Self::Arch => format!("{sudo}pacman -S --needed gcc clang"),
            Self::Alpine => format!("{sudo}apk add g++ clang-dev clang-libclang"),
            Self::Suse => format!("{sudo}zypper install -y gcc-c++ clang-devel"),
            Self::MacOs => "xcode-select --install".to_owned(),
            Self::Unknown => {
                "install a C++ compiler and libclang, with its headers, with your package manager".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_from_os_release() {
        for (text, expected) in [
            ("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n", Platform::Debian),
            ("NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Platform::Debian),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Platform::Fedora),
            ("ID=endeavouros\nID_LIKE='arch'\n", Platform::Arch),
            ("ID=alpine\n", Platform::Alpine),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", Platform::Suse),
            ("ID=nixos\n", Platform::Unknown),
            ("", Platform::Unknown),
        ] {
            assert_eq!(Platform::from_os_release(text), expected, "{text}");
        }
    }

    #[test]
    fn root_needs_no_sudo() {
        assert_eq!(Platform::Fedora.command(true), "dnf install -y gcc-c++ clang-devel");
        assert_eq!(Platform::Fedora.command(false), "sudo dnf install -y gcc-c++ clang-devel");
    }
}
