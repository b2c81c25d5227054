//! A placeholder for the server of umadb on platforms without protoc. The report has the reason.

use std::path::Path;

use async_trait::async_trait;
use es_bench::{Contender, Failure, Opened, Role, Setup, Task};

use crate::version;

const REASON: &str = "not built: no protoc for this platform";

pub(crate) struct UmaDbServer;

#[async_trait]
impl Contender for UmaDbServer {
    fn name(&self) -> &'static str {
        "umadb-server"
    }

    fn about(&self) -> String {
        version("umadb-server")
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, _: Task) -> Result<(), &'static str> {
        Err(REASON)
    }

    async fn open(&self, _: &Path, _: Setup) -> Result<Box<dyn Opened>, Failure> {
        Err(Failure::new("open umadb-server", REASON))
    }
}
