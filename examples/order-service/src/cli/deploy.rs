//! The files in `deploy` and the commands of the chapter "Put it in production" use flags and settings that exist.

use std::path::Path;

use clap::Parser;

use super::args::{Cli, Command};
use crate::config::{MergedSettings, PartialSettings, SettingOrigin, Settings};

const UNIT: &str = include_str!("../../deploy/order-service.service");
const CONTAINER: &str = include_str!("../../deploy/Containerfile");
const CHAPTER: &str = include_str!("../../../../docs/book/src/production.md");

/// Returns the configuration file of `deploy`.
fn file() -> PartialSettings {
    PartialSettings::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/order-service.toml")).expect("valid")
}

fn settings(command_line: &PartialSettings, file: Option<&PartialSettings>) -> Settings {
    let merged = MergedSettings::new(command_line, |_| SettingOrigin::Flag, file).expect("they merge");
    merged.settings().expect("complete")
}

/// Checks that the service needs tokens and that its operations are not public.
fn assert_protected(settings: &Settings) {
    assert!(!settings.listen.ip().is_loopback() && !settings.is_open_to_all());
    let operations = settings.operations().expect("an address").to_string();
    assert_eq!(operations, "unix:/run/order-service/operations.sock");
}

#[test]
fn the_unit_starts_the_service_with_the_configuration_file_and_gives_it_time_to_stop() {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).expect("a command");
    let cli = Cli::try_parse_from(line.split(' ')).expect("flags that exist");
    let Command::Serve(args) = cli.command else { panic!("expected serve: {line}") };
    assert_eq!(args.config.as_deref(), Some(Path::new("/etc/order-service/order-service.toml")));
    let settings = settings(&args.settings, Some(&file()));
    assert_protected(&settings);
    assert_eq!(settings.scheme(), "https");
    let timeout = UNIT.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("a timeout");
    assert!(timeout.parse::<u64>().expect("seconds") > settings.drain_deadline().as_secs() + 10);
}

#[test]
fn the_container_starts_the_service_with_tokens() {
    let command = CONTAINER.lines().find_map(|line| line.strip_prefix("CMD ")).expect("a command");
    let command: Vec<String> = serde_json::from_str(command).expect("a list of texts");
    let words = std::iter::once("order-service".to_owned()).chain(command);
    let cli = Cli::try_parse_from(words).expect("flags that exist");
    let Command::Serve(args) = cli.command else { panic!("expected serve") };
    assert_protected(&settings(&args.settings, None));
}

#[test]
fn the_commands_of_the_chapter_have_flags_that_exist() {
    let commands = CHAPTER.lines().filter_map(|line| line.strip_prefix("$ ")).map(|line| line.split(" #").next());
    let commands: Vec<&str> = commands.flatten().filter(|line| line.starts_with("order-service ")).collect();
    assert!(commands.len() > 3, "{commands:?}");
    for command in commands {
        let parsed = Cli::try_parse_from(command.split_whitespace());
        let is_help = command.trim_end().ends_with("--help");
        assert!(parsed.is_ok() || is_help, "{command}: {parsed:?}");
    }
}
