//! What people type.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod check;
pub mod configuration;
pub mod dump;

/// Runs the program named by the first argument's file name, or by the subcommand.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or("");
    let client = program == "fail2ban-client" || words.get(1).is_some_and(|word| word == "client");
    if client && let Some(request) = configuration::Request::parse(&words[1..]) {
        return request.run();
    }
    ExitCode::SUCCESS
}
