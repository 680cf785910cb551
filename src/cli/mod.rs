//! What people type.

use std::ffi::OsString;
use std::process::ExitCode;

pub mod background;
pub mod check;
pub mod client;
pub mod configuration;
pub mod contact;
pub mod demo;
pub mod dump;
pub mod options;
pub mod regex;
pub mod report;
pub mod server;
pub mod shadow;
pub mod shell;
pub mod takeover;
pub mod usage;

/// Runs the program named by the first argument's file name, or by the subcommand.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or("");
    if program == "fail2ban-client" {
        return client::main(&words);
    }
    if program == "fail2ban-server" {
        return server::main(&words);
    }
    if program == "fail2ban-regex" {
        return regex::main(&words);
    }
    match words.get(1).map(String::as_str) {
        Some("client") => client::main(&words[1..]),
        Some("server") => server::main(&words[1..]),
        Some("contact") => contact::main(&words[1..]),
        Some("demo") => demo::main(&words[1..]),
        Some("regex") => regex::main(&words[1..]),
        Some("report") => report::main(&words[1..]),
        Some("shadow") => shadow::main(&words[1..]),
        Some("takeover") => takeover::main(&words[1..]),
        Some("completions") => shell::completions(&words[2..]),
        Some("manual") => shell::manual(&words[2..]),
        Some("--version" | "-V") => {
            println!("sekimori {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: sekimori client [OPTIONS] COMMAND (see sekimori client --help)\n       sekimori server [OPTIONS] (see sekimori server --help)\n       sekimori regex [OPTIONS] LOG REGEX\n       sekimori contact ADDRESS...\n       sekimori report preview LOG FILTER\n       sekimori shadow [OPTIONS] (see sekimori shadow --help)\n       sekimori takeover [OPTIONS] (see sekimori takeover --help)\n       sekimori demo\n       sekimori completions bash|zsh|fish [PROGRAM]\n       sekimori manual DIRECTORY"
            );
            ExitCode::from(255)
        }
    }
}

/// What a subcommand is told on its command line.
///
/// # Errors
/// The exit code, if help was asked for (0) or the words are wrong (255); what there is to say has been said.
fn parsed<T: clap::Parser>(words: &[String]) -> Result<T, ExitCode> {
    T::try_parse_from(words).map_err(|error| {
        // the terminal is gone, then there is nobody to tell
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { 255 } else { 0 })
    })
}
