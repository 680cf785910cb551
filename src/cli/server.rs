//! `sekimori server` and `fail2ban-server`: the daemon, in the foreground or the background.
//!
//! `sekimori server` stays in the foreground, `fail2ban-server` goes to the background; `-f` and `-b`
//! say otherwise. With a command other than `start` both are the client.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::Mode;

use super::client::{self, FAILED, answers, base_name, complain, wait_for_answer};
use super::options::Options;
use super::{background, check};
use crate::config::settings::{Backend, Settings};
use crate::control::Value;
use crate::fail2ban::Configuration;
use crate::server::logging::{Destination, Level, Logger};
use crate::server::run::Kind;
use crate::server::{causes, engine, run, settings};

/// A server that lives answers within this time.
const PONG: Duration = Duration::from_millis(500);

/// Runs the program; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let program = words.first().map_or("fail2ban-server", |word| base_name(word));
    let mut options = match client::parsed(program, words) {
        Ok(options) => options,
        Err(code) => return code,
    };
    options.foreground = options.foreground.or(Some(program != "fail2ban-server"));
    let starts = options.words.is_empty() || options.words == ["start"];
    if !starts || options.interactive || options.dump || options.pretty || options.test {
        return client::run(program, *options);
    }
    let done = if options.foreground == Some(true) {
        foreground(&options)
    } else {
        client::places(&options).and_then(|(socket, pidfile)| background::start(&options, &socket, &pidfile))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            complain(&text);
            ExitCode::from(FAILED)
        }
    }
}

/// Is the server until it is stopped.
///
/// # Errors
/// If it cannot start; the text says why.
pub fn foreground(options: &Options) -> Result<(), String> {
    if options.detached {
        detach().map_err(|error| format!("cannot leave the terminal: {error}"))?;
    }
    // whatever is made from here on is for the owner alone
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let request = options.request();
    let directory = request.place()?;
    let (settings, _) = settings::read(&directory);
    let mut read = if options.configured_by_client { request.read_general()? } else { request.read_for_server()? };
    eprint!("{}", check::report(&read.diagnostics, &read.texts, std::io::stderr().is_terminal()));
    if read.is_fatal() {
        return Err(format!("`{}` cannot be used", directory.display()));
    }
    let socket = options.socket.clone().unwrap_or_else(|| read.socket.clone().into());
    let pidfile = options.pidfile.clone().unwrap_or_else(|| read.pidfile.clone().into());
    refuse_second(&socket, &pidfile)?;
    let destination = destination(&read)?;
    let logger = Logger::open(&destination, level(&read)).map_err(|error| causes(&error))?;
    if options.configured_by_client {
        // its client sends these again, with all others
        read.stream.clear();
    }
    let logtarget = destination.name;
    let how = run::Options {
        engine: engine::Options {
            directory,
            compat: options.compat.unwrap_or(settings.compat),
            native_actions: settings.native_actions,
            undecided: settings.undecided,
            undecided_of: settings.undecided_of.clone(),
            dry_run: options.dry_run,
            database_in_memory: false,
            reading: request.options(&settings),
        },
        firewall: kind(options, &settings)?,
        socket: Some(socket.clone()),
        group: settings.control_group.clone(),
        pidfile: Some(pidfile),
        background: options.detached,
        logtarget,
    };
    if !options.detached {
        announce(socket, options.timeout, &how.logtarget);
    }
    run::run(&read, how, logger).map_err(|error| causes(&error))
}

/// A session of our own, and no directory that somebody may want to unmount.
fn detach() -> Result<(), rustix::io::Errno> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")
}

/// Two that ban at once undo each other's work.
fn refuse_second(socket: &std::path::Path, pidfile: &std::path::Path) -> Result<(), String> {
    let advice = "`sekimori takeover` takes over from a Fail2Ban; else stop it first (`fail2ban-client stop`), or give this \
                  one a socket and a pid file of its own (-s, -p)";
    if answers(socket, PONG) {
        return Err(format!("Server already running: it answers at `{}`; {advice}", socket.display()));
    }
    if let Some(pid) = background::running(pidfile) {
        return Err(format!("Server already running: process {pid} is in `{}`; {advice}", pidfile.display()));
    }
    Ok(())
}

/// What the configuration says about an option of the server.
pub(super) fn value(configuration: &Configuration, option: &str) -> Option<String> {
    configuration.stream.iter().find_map(|command| match &command.words[..] {
        [Value::Text(set), Value::Text(name), Value::Text(value)] if set == "set" && name == option => {
            Some(value.clone())
        }
        _ => None,
    })
}

fn level(configuration: &Configuration) -> Level {
    value(configuration, "loglevel").and_then(|text| Level::parse(&text)).unwrap_or(Level::INFO)
}

fn destination(configuration: &Configuration) -> Result<Destination, String> {
    let target = value(configuration, "logtarget").unwrap_or_else(|| "STDOUT".to_owned());
    let syslog = value(configuration, "syslogsocket").unwrap_or_default();
    Destination::parse(&target, &syslog).map_err(|text| format!("logtarget `{target}`: {text}"))
}

pub(super) fn kind(options: &Options, settings: &Settings) -> Result<Kind, String> {
    Ok(match (&options.firewall, settings.backend) {
        _ if options.dry_run => Kind::Memory,
        (Some(name), _) => name.parse::<Kind>().map_err(|error| error.to_string())?,
        (None, Backend::Auto) => Kind::Auto,
        (None, Backend::Nftables) => Kind::Nftables,
        (None, Backend::Ipset) => Kind::Ipset,
        (None, Backend::Memory) => Kind::Memory,
    })
}

/// Says on stdout when the server is ready, as Fail2Ban's does; people are told where its log is.
fn announce(socket: PathBuf, timeout: Duration, logtarget: &str) {
    if std::io::stderr().is_terminal() && !logtarget.eq_ignore_ascii_case("stdout") {
        eprintln!("the log is `{}`; Ctrl-C stops the server", client::escaped(logtarget));
    }
    let wait = move || {
        if let Some(Value::Text(ready)) = wait_for_answer(&socket, "server-status", Instant::now() + timeout, || false)
        {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{ready}").and_then(|()| out.flush());
        }
    };
    // without it the server is as ready, it only does not say so
    let _ = std::thread::Builder::new().name("sk/ready".to_owned()).spawn(wait);
}
