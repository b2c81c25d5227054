//! [`NodeProcess`]: a node in a process of its own, as the program controls it.

use std::error::Error;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::message::{Answer, Request, Start};

/// How long a node may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A node in a process of its own. The process is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// The port on which it answers the other nodes.
    pub(crate) port: u16,
    /// The origin of its events.
    pub(crate) origin: String,
}

impl NodeProcess {
    /// Starts a node, and waits until it runs.
    ///
    /// # Errors
    /// If the process does not start, or reports a failure.
    pub(crate) async fn start(start: &Start) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let requests = child.stdin.take().ok_or("the node has no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("the node has no standard output")?).lines();
        let mut node = Self { child, requests, answers, port: 0, origin: String::new() };
        node.send(&serde_json::to_string(start)?).await?;
        match node.receive().await? {
            Answer::Started { port, origin } => (node.port, node.origin) = (port, origin),
            answer => return Err(format!("node {} did not start: {answer:?}", start.name).into()),
        }
        Ok(node)
    }

    /// Sends a request, and returns its answer.
    ///
    /// # Errors
    /// If the process has ended, does not answer in time, or reports a failure. The request may have been executed.
    pub(crate) async fn request(&mut self, request: Request) -> Result<Answer, Box<dyn Error>> {
        self.send(&serde_json::to_string(&request)?).await?;
        match self.receive().await? {
            Answer::Failed(reason) => Err(reason.into()),
            answer => Ok(answer),
        }
    }

    /// Kills the process, as `SIGKILL` does, and waits until it has ended.
    ///
    /// # Errors
    /// If the process cannot be killed.
    pub(crate) async fn kill(mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.kill().await?)
    }

    async fn send(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        self.requests.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.requests.flush().await?)
    }

    async fn receive(&mut self) -> Result<Answer, Box<dyn Error>> {
        let line = tokio::time::timeout(TIMEOUT, self.answers.next_line()).await??;
        Ok(serde_json::from_str(&line.ok_or("the node has ended")?)?)
    }
}
