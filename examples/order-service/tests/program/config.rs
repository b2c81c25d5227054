//! The configuration of `serve`: flags, environment, file, defaults.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::TestDir;

/// Starts `serve` with these arguments and variables, and returns its first lines of standard error, up to the address.
fn first_lines(dir: &TestDir, args: &[&str], variables: &[(&str, &str)]) -> (Child, Vec<String>) {
    let mut command = dir.command(&[&["serve", "--operations", "127.0.0.1:0"], args].concat());
    command.envs(variables.iter().copied()).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut program = command.spawn().expect("the program starts");
    let stderr = BufReader::new(program.stderr.take().expect("standard error is a pipe"));
    let mut lines = Vec::new();
    for line in stderr.lines() {
        lines.push(line.expect("standard error can be read"));
        if lines.last().is_some_and(|line| line.starts_with("listening on ")) {
            break;
        }
    }
    (program, lines)
}

fn end(mut program: Child) {
    program.kill().expect("killed");
    program.wait().expect("ended");
}

#[test]
fn a_flag_precedes_the_environment_the_environment_the_file_and_the_file_the_defaults() {
    let dir = TestDir::new();
    dir.write("service.toml", "listen = '127.0.0.1:1'\nmax-body = 1\nmax-bodies = 1\n");
    let args = ["serve", "--config", "service.toml", "--print-config", "--max-body", "3", "--json"];
    let mut command = dir.command(&args);
    let output = command.env("ORDER_SERVICE_MAX_BODY", "2").env("ORDER_SERVICE_MAX_BODIES", "2").output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (key, value, origin) in [
        ("data", json!("shop"), "flag"),
        ("max-body", json!(3), "flag"),
        ("max-bodies", json!(2), "environment"),
        ("listen", json!("127.0.0.1:1"), "file"),
        ("max-connections", json!(4096), "default"),
    ] {
        assert_eq!(printed[key], json!({"value": value, "origin": origin}), "{key}");
    }
    assert!(!dir.path("shop").exists(), "no store is created");
}

#[test]
fn the_file_can_have_the_directory_of_the_store() {
    let dir = TestDir::new();
    dir.write("service.toml", "data = 'elsewhere'\nlisten = '127.0.0.1:0'\noperations = 'unix:operations.sock'\n");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_order-service"));
    command.current_dir(dir.path("")).env_remove("ORDER_SERVICE_DATA").args(["serve", "--config", "service.toml"]);
    let mut program = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let stderr = BufReader::new(program.stderr.take().expect("a pipe"));
    assert!(stderr.lines().any(|line| line.expect("text").starts_with("listening on ")));
    assert!(dir.path("elsewhere").join("log").exists() && dir.path("operations.sock").exists());
    end(program);
}

#[test]
fn an_invalid_configuration_is_refused_before_a_store_is_created() {
    let dir = TestDir::new();
    dir.write("tokens", "secret write shop\n");
    let refused = |file: &str, listen: &str, expected: &str| {
        dir.write("service.toml", file);
        let ran = dir.run(&["serve", "--config", "service.toml", "--listen", listen]);
        assert_eq!(ran.code, Some(2), "{file}: {}", ran.err);
        assert!(ran.err.contains(expected) && !ran.err.contains("secret"), "{file}: {}", ran.err);
    };
    // No machine has this address: a service that ignores the setting ends, too, and with another code.
    refused("lisen = '127.0.0.1:0'", "192.0.2.1:0", "unknown field `lisen`, expected one of `data`, `listen`");
    for (file, expected) in [
        ("listen = 8080", "invalid type: integer `8080`"),
        ("listen = ", "invalid configuration in service.toml"),
        ("tokens = 'tokens'", "line 1 of the tokens: expected sha256:"),
        ("tokens = 'absent'", "could not read the tokens in absent"),
        ("tls-cert = 'a.pem'", "expected tls-cert and tls-key together"),
        ("log = 'info,='", "expected a filter of logs such as info,es_core=debug"),
        ("spans = 'localhost:4318'", "expected the URL of a collector such as http://127.0.0.1:4318/v1/traces"),
        ("operations = '8081'", "expected unix:PATH or HOST:PORT, found \"8081\""),
        ("drain-deadline = 31536001", "drain-deadline: expected at most 31536000 seconds, found 31536001"),
        ("body-deadline = 9223372036854775807", "body-deadline: expected at most 31536000 seconds"),
        ("tenant-header = 'a b'", "tenant-header: expected the name of a header, found \"a b\""),
    ] {
        refused(file, "127.0.0.1:0", expected);
    }
    assert_eq!(dir.run(&["serve", "--config", "absent.toml"]).code, Some(2));
    assert!(!dir.path("shop").exists());
}

#[test]
fn an_address_that_others_reach_without_tokens_is_a_warning_on_standard_error_and_in_the_log() {
    let dir = TestDir::new();
    let warning = "every client that reaches 0.0.0.0:0 may do everything";
    let (program, lines) = first_lines(&dir, &["--listen", "0.0.0.0:0", "--log-format", "json"], &[]);
    end(program);
    assert!(lines.iter().any(|line| line.starts_with(&format!("warning: {warning}"))), "{lines:?}");
    let logged = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_warning = |line: &Value| line["level"] == "WARN" && line["message"].as_str().unwrap().contains(warning);
    assert!(logged.into_iter().any(|line| is_warning(&line)), "{lines:?}");

    dir.write("tokens", "");
    for (args, variables) in [
        (&["--listen", "0.0.0.0:0", "--tokens", "tokens"][..], &[][..]),
        (&["--listen", "127.0.0.1:0"], &[]),
        (&[], &[("ORDER_SERVICE_LISTEN", "[::1]:0")]),
    ] {
        let (program, lines) = first_lines(&dir, args, variables);
        end(program);
        assert!(!lines.iter().any(|line| line.contains("warning") || line.contains("WARN")), "{lines:?}");
    }
}
