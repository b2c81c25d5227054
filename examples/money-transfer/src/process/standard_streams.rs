//! The standard streams of a service: requests arrive on the input, answers leave on the output.

use std::io::Write;

use es_core::model::ErrorChain;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::failure::Failure;
use crate::process::message::{Answer, Request};

/// Writes a line.
pub(crate) fn write(answer: &Answer) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(answer)?)?;
    Ok(output.flush()?)
}

/// Answers requests until the input ends: then the program that started the service has ended, too.
pub(crate) async fn answer_requests(answer: impl AsyncFn(Request) -> Result<Answer, Failure>) -> Result<(), Failure> {
    write(&Answer::Started)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answered = answer(serde_json::from_str(&line)?).await;
        write(&answered.unwrap_or_else(|error| Answer::Failed(ErrorChain(&*error).to_string())))?;
    }
    Ok(())
}
