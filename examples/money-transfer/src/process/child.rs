//! [`ChildProcess`]: a service in a process of its own, as the program controls it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::failure::Failure;
use crate::process::message::{Answer, Request};

/// How long a service may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A service in a process of its own. The process is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl ChildProcess {
    /// Starts this program with a command line, and waits until the service runs.
    pub(crate) async fn start(arguments: &[String], environment: (&str, &str)) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).env(environment.0, environment.1);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let requests = child.stdin.take().ok_or("the service has no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("the service has no standard output")?).lines();
        let mut process = Self { child, requests, answers };
        match process.receive().await? {
            Answer::Started => Ok(process),
            other => Err(format!("expected that the service starts, found {other:?}").into()),
        }
    }

    /// Sends a request. [`receive`](Self::receive) returns the answer.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), Failure> {
        self.requests.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
        Ok(self.requests.flush().await?)
    }

    /// Returns the next line. Nothing is lost if the future is dropped.
    pub(crate) async fn receive(&mut self) -> Result<Answer, Failure> {
        let line = tokio::time::timeout(TIMEOUT, self.answers.next_line()).await??;
        match serde_json::from_str(&line.ok_or("the service has ended")?)? {
            Answer::Failed(reason) => Err(reason.into()),
            answer => Ok(answer),
        }
    }

    /// Kills the process with `SIGKILL`, and waits until it has ended.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }
}
