//! `sekimori server`: the daemon, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::config::settings::Backend;
use crate::fail2ban;
use crate::firewall::{self, Kind};
use crate::server::engine;
use crate::server::logging::{Level, Logger, Target};
use crate::server::run;

/// Anything that keeps the server from starting.
const FAILED: u8 = 255;

#[derive(Parser, Debug)]
#[command(name = "sekimori server", about = "Follows logs and bans, in the foreground")]
struct Arguments {
    /// Configuration directory
    #[arg(short = 'c', long = "conf")]
    conf: Option<PathBuf>,
    /// Where bans go: auto, nftables, ipset or memory (nowhere); sekimori.toml says what else
    #[arg(long)]
    firewall: Option<String>,
    /// Where messages go: a file, STDOUT, STDERR, SYSLOG
    #[arg(long, default_value = "STDOUT")]
    logtarget: String,
    /// Control socket
    #[arg(short = 's', long)]
    socket: Option<PathBuf>,
    /// File for the process number
    #[arg(short = 'p', long)]
    pidfile: Option<PathBuf>,
    /// Say what would be done, but ban nobody, run no command and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Start although a Fail2Ban server seems to run
    #[arg(short = 'x')]
    force: bool,
}

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // the terminal is gone, then there is nobody to tell
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILED)
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), String> {
    let directory = arguments.conf.clone().unwrap_or_else(super::configuration::default_directory);
    let (settings, _) = super::configuration::settings(&directory);
    let reading = fail2ban::Options {
        compat: settings.compat,
        vendor: super::configuration::vendor_layers(),
        logtarget: Some(arguments.logtarget.clone()),
        ..fail2ban::Options::default()
    };
    let configuration = fail2ban::read(&directory, &reading);
    eprint!("{}", super::check::report(&configuration.diagnostics, &configuration.texts, false));
    if configuration.is_fatal() {
        return Err(format!("`{}` cannot be used", directory.display()));
    }
    let default = PathBuf::from(&configuration.socket);
    let own = arguments.socket.is_some();
    if !arguments.force && !own && std::os::unix::net::UnixStream::connect(&configuration.socket).is_ok() {
        return Err(format!(
            "a Fail2Ban server answers at `{}`; stop it first (systemctl stop fail2ban), or use -x to start beside it",
            configuration.socket
        ));
    }
    let level = configuration
        .stream
        .iter()
        .find_map(|command| match &command.words[..] {
            [_, option, value] if option.as_text() == Some("loglevel") => value.as_text().and_then(Level::parse),
            _ => None,
        })
        .unwrap_or(Level::INFO);
    let logger =
        Logger::open(&Target::parse(&arguments.logtarget, "auto"), level).map_err(|error| error.to_string())?;
    let firewall = match (&arguments.firewall, settings.backend) {
        _ if arguments.dry_run => Kind::Memory,
        (Some(name), _) => name.parse().map_err(|error: firewall::Error| error.to_string())?,
        (None, Backend::Auto) => Kind::Auto,
        (None, Backend::Nftables) => Kind::Nftables,
        (None, Backend::Ipset) => Kind::Ipset,
        (None, Backend::Memory) => Kind::Memory,
    };
    let options = run::Options {
        engine: engine::Options {
            directory,
            compat: settings.compat,
            native_actions: settings.native_actions,
            dry_run: arguments.dry_run,
            reading,
        },
        firewall,
        socket: Some(arguments.socket.clone().unwrap_or(default)),
        pidfile: Some(arguments.pidfile.clone().unwrap_or_else(|| PathBuf::from(&configuration.pidfile))),
        background: false,
        logtarget: arguments.logtarget.clone(),
    };
    run::run(&configuration, options, logger).map_err(|error| causes(&error))
}

/// An error and its causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
