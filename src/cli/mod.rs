//! What people type.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod check;
pub mod configuration;
pub mod demo;
pub mod dump;
pub mod regex;
pub mod server;

/// Runs the program named by the first argument's file name, or by the subcommand.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or("");
    let client = program == "fail2ban-client" || words.get(1).is_some_and(|word| word == "client");
    if client && let Some(request) = configuration::Request::parse(&words[1..]) {
        return request.run();
    }
    if program == "fail2ban-regex" {
        return regex::main(&words);
    }
    match words.get(1).map(String::as_str) {
        Some("server") => server::main(&words[1..]),
        Some("demo") => demo::main(&words[1..]),
        Some("regex") => regex::main(&words[1..]),
        Some("--version" | "-V") => {
            println!("sekimori {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: sekimori client [-c DIR] -d|--dp|-t\n       sekimori server [-c DIR] [--firewall KIND] [--logtarget TARGET]\n       sekimori regex --json LOG FILTER\n       sekimori demo"
            );
            ExitCode::from(255)
        }
    }
}
