//! A provider that runs as a process, for tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;
use ureq::Agent;

use crate::support::TestDir;

/// A running provider. Stopped on drop if this process has started it.
pub(crate) struct ProviderProgram {
    program: Option<Child>,
    pub(crate) address: String,
    agent: Agent,
}

impl ProviderProgram {
    /// Starts a provider whose record is the file `effects.jsonl` of the directory.
    pub(crate) fn new(dir: &TestDir, args: &[&str]) -> Self {
        let options = ["provider", "--record", "effects.jsonl", "--listen", "127.0.0.1:0", "--until-stdin-closes"];
        let mut command = dir.command(&[&options, args].concat());
        let command = command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut program = command.spawn().expect("the program starts");
        let mut errors = BufReader::new(program.stderr.take().expect("standard error is a pipe"));
        let mut line = String::new();
        errors.read_line(&mut line).expect("standard error can be read");
        let address = line.trim_end().strip_prefix("provider on ").expect("the program prints its address").to_owned();
        let mut provider = Self::at(address);
        provider.program = Some(program);
        provider
    }

    /// Returns a provider that another process has started.
    pub(crate) fn at(address: String) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { program: None, address, agent }
    }

    /// Returns all effects.
    pub(crate) fn effects(&self) -> Vec<Value> {
        let mut reply = self.agent.get(format!("{}/effects", self.address)).call().expect("an answer");
        serde_json::from_str(&reply.body_mut().read_to_string().expect("text")).expect("JSON")
    }

    /// Returns the number of effects of a kind for a saga.
    pub(crate) fn count(&self, saga: &str, kind: &str) -> usize {
        self.effects().iter().filter(|effect| effect["saga"] == saga && effect["kind"] == kind).count()
    }

    /// Lets the customer pay an invoice. Returns the status of the answer.
    pub(crate) fn customer_pays(&self, key: &str) -> u16 {
        let paid = self.agent.post(format!("{}/payments/{key}/pay", self.address)).send_empty();
        paid.expect("an answer").status().as_u16()
    }

    /// Sends SIGKILL to the provider.
    pub(crate) fn kill(mut self) {
        let mut program = self.program.take().expect("this process has started it");
        program.kill().expect("it runs");
        program.wait().expect("it ends");
    }
}

impl Drop for ProviderProgram {
    fn drop(&mut self) {
        if let Some(program) = &mut self.program {
            drop(program.stdin.take());
            let _ = program.wait();
        }
    }
}
