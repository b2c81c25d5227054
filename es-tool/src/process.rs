//! Limits and defaults of the process.

/// Raises the number of files that the process may have open to the maximum that the system allows it.
///
/// The usual limit of a shell (1,024, on some systems 256) is lower than the number of files of a large store. A limit
/// that cannot be raised stays as it is: opening a store reports it if it is too low.
pub fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            // A limit that cannot be raised is not an error yet.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        }
    }
}

/// Makes new files and directories of the process inaccessible to other users (`umask 077`), in addition to the
/// restrictions that the process has already. Call it before other threads create files.
pub fn restrict_new_files() {
    #[cfg(unix)]
    {
        use rustix::fs::Mode;
        use rustix::process::umask;
        let private = Mode::RWXG | Mode::RWXO;
        let inherited = umask(private);
        umask(inherited | private);
    }
}
