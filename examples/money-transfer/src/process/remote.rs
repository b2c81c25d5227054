//! How the services reach each other: HTTP on this machine, with one secret token. Between machines use `https://`, and
//! a token for each client.

use std::fmt::Write;
use std::time::Duration;

use es_http::Tokens;
use es_http::transactions::{HttpParticipant, HttpParticipantOptions};
use es_transaction::{CommandList, LockedStreams};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// The name of the coordinator, which its banks know.
pub(crate) const COORDINATOR: &str = "transfers";
/// The name of the client with the token.
pub(crate) const CLIENT: &str = "transfers";
/// The names of the banks.
pub(crate) const BANKS: [&str; 2] = ["north", "south"];
/// The path of the routes of a participant.
pub(crate) const PATH: &str = "/transactions";
/// The variable of the environment with the token: other users of a machine can read command lines.
pub(crate) const TOKEN: &str = "MONEY_TRANSFER_TOKEN";

/// The time within which the banks must vote.
pub(crate) const VOTE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The time after which a bank ends a three-phase commit without the coordinator. It is longer than
/// [`VOTE_TIMEOUT`], and than the restart of a bank: three-phase commit assumes that a call arrives before.
pub(crate) const TERMINATE_AFTER: Duration = Duration::from_millis(2_500);

/// A bank in another process.
pub(crate) type RemoteBank = HttpParticipant<CommandList, LockedStreams>;

/// Returns the client of a bank on this machine.
pub(crate) fn remote_bank(name: &str, port: u16, token: &str) -> Result<RemoteBank, Failure> {
    let options = HttpParticipantOptions::new().token(token).timeout(Duration::from_secs(5));
    Ok(HttpParticipant::new(name, &format!("http://127.0.0.1:{port}{PATH}"), options)?)
}

/// Returns the clients that a bank answers: those that have the token.
pub(crate) fn tokens(token: &str) -> Result<Tokens, Failure> {
    let mut line = String::from("sha256:");
    for byte in Sha256::digest(token) {
        write!(line, "{byte:02x}")?;
    }
    Ok(format!("{line} write {CLIENT}").parse()?)
}
