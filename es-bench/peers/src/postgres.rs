//! A PostgreSQL server, started when it is needed and removed at the end.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use es_bench::Failure;
use sqlx08::postgres::{PgConnectOptions, PgPoolOptions};
use tempfile::TempDir;

use crate::failed;

const USER: &str = "postgres";
/// The time limit for starting and stopping.
const PATIENCE: Duration = Duration::from_secs(60);
/// The maximum number of connections, greater than that of a pool.
pub(crate) const CONNECTIONS: u32 = 64;

/// A running server; dropping it stops it and removes its directory.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    version: String,
}

impl Server {
    /// Starts a server with its data in a subdirectory.
    pub(crate) async fn start(below: &Path) -> Result<Self, Failure> {
        let programs = programs().ok_or_else(|| {
            Failure::new("start PostgreSQL", "no /usr/lib/postgresql/*/bin; apt-get install postgresql")
        })?;
        let dir = tempfile::Builder::new().prefix("es-bench-postgres-").tempdir_in(below);
        let dir = dir.map_err(failed("create a directory"))?;
        give_away(dir.path())?;
        let data = dir.path().join("data");
        let mut initdb = as_user(&programs.join("initdb"), dir.path());
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=bench", "--pgdata"]).arg(&data);
        let output = initdb.output().map_err(failed("start initdb"))?;
        if !output.status.success() {
            return Err(Failure::new("create a database", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let mut server = as_user(&programs.join("postgres"), dir.path());
        server.arg("-D").arg(&data).arg("-k").arg(dir.path());
        for setting in [
            "listen_addresses=",
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            "shared_buffers=256MB",
            "max_wal_size=4GB",
            "max_connections=200",
        ] {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(dir.path().join("log")).map_err(failed("create a file"))?;
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(failed("start PostgreSQL"))?;
        let mut server = Self { child, dir, version: String::new() };
        server.wait().await?;
        Ok(server)
    }

    /// Returns the connection string of its socket.
    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new().socket(self.dir.path()).username("bench").database("postgres")
    }

    /// Returns its version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(5));
            let asked = async {
                let pool = pool.connect_with(self.options()).await?;
                sqlx08::query_scalar::<_, String>("SHOW server_version").fetch_one(&pool).await
            };
            match asked.await {
                Ok(version) => {
                    self.version = version;
                    return Ok(());
                }
                Err(error) if Instant::now() > until => {
                    let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                    return Err(Failure::new("start PostgreSQL", format!("{error}\n{log}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is the fast shutdown. If it fails, the server is killed.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the directory with the programs of the newest installed version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
    let newest =
        versions.map(|entry| entry.path()).filter(|path| path.join("bin/postgres").exists()).max_by_key(number)?;
    Some(newest.join("bin"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Creates a command that runs as the user postgres if this process is root, because PostgreSQL refuses root. The
/// server ends with this process.
fn as_user(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.current_dir(dir).args(["--pdeathsig", "INT"]);
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// Changes the owner of a directory to the user of the server.
fn give_away(dir: &Path) -> Result<(), Failure> {
    if !is_root() {
        return Ok(());
    }
    let id = |flag| {
        let output = Command::new("id").args([flag, USER]).output().map_err(failed("find the user postgres"))?;
        let id = String::from_utf8_lossy(&output.stdout).trim().parse::<u32>();
        id.map_err(|_| Failure::new("find the user postgres", "not found"))
    };
    chown(dir, Some(id("-u")?), Some(id("-g")?)).map_err(failed("change the owner of a directory"))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .map_err(failed("change the permissions of a directory"))
}
