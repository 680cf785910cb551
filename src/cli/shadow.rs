//! `sekimori shadow`: decides beside a live Fail2Ban, does nothing, and lists where the two differ.
//!
//! Our whole server runs in here, with a firewall that only remembers, without actions, with Fail2Ban's database copied
//! into memory and Fail2Ban's bans handed over. Both are asked for their bans twice a second; failures are compared as
//! their logs tell them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

mod compare;
mod told;

use compare::{Compare, Difference, Kind, Side};

use super::check;
use super::client::{Connection, FAILED, escaped, wait_for_answer};
use super::options::Options;
use super::takeover::other::{self, Other};
use super::takeover::seconds;
use crate::config::settings::Settings;
use crate::control::Value;
use crate::fail2ban::Configuration;
use crate::server::handover;
use crate::server::logging::{Level, Logger, day_time};
use crate::server::run::{self, Kind as Firewall};
use crate::server::{causes, engine, settings};
use crate::time::Time;

/// There are differences.
const DIFFERENT: u8 = 1;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// So long our side may take to begin.
const BEGIN: Duration = Duration::from_secs(300);

#[derive(Parser, Clone, Debug)]
#[command(
    name = "sekimori shadow",
    about = "Decides beside a live Fail2Ban without doing anything, and lists every difference",
    disable_version_flag = true,
    after_help = "Runs until Ctrl-C, SIGTERM or the end of --for. Reads the same configuration and logs; the firewall, \
                  Fail2Ban's database and its actions are not touched.\n\
                  Exit codes: 0 no difference; 1 differences; 255 it could not compare."
)]
struct Arguments {
    /// End after this time, such as 10m
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<Duration>,
    /// One JSON object a line: differences, then a summary
    #[arg(long)]
    json: bool,
    /// How much later the other one may decide the same
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = seconds)]
    grace: Duration,
    /// Configuration directory of both
    #[arg(short, long, value_name = "DIR")]
    conf: Option<PathBuf>,
    /// Control socket of Fail2Ban, instead of the configured one
    #[arg(short, long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Pid file of Fail2Ban, instead of the configured one
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
}

/// What shells and the manual are told.
pub(super) fn description() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let arguments = match super::parsed::<Arguments>(words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match shadow(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(DIFFERENT),
        Err(text) => {
            eprintln!("error: {}", escaped(&text));
            ExitCode::from(FAILED)
        }
    }
}

fn now() -> Time {
    Time::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// Compares until the end; the number of differences.
fn shadow(arguments: &Arguments) -> Result<u64, String> {
    let options = Options {
        conf: arguments.conf.clone(),
        socket: arguments.socket.clone(),
        pidfile: arguments.pidfile.clone(),
        // what our side says is for us
        loglevel: Some("INFO".to_owned()),
        logtarget: Some("STDERR".to_owned()),
        ..Options::default()
    };
    let request = options.request();
    let directory = request.place()?;
    let (settings, _) = settings::read(&directory);
    let read = request.read_for_server()?;
    if read.is_fatal() || read.lost_all_jails() {
        eprint!("{}", check::report(&read.diagnostics, &read.texts, false));
        return Err(format!("`{}` cannot be used", directory.display()));
    }
    let socket = options.socket.clone().unwrap_or_else(|| read.socket.clone().into());
    let pidfile = options.pidfile.clone().unwrap_or_else(|| read.pidfile.clone().into());
    let theirs = Other::find(&socket, &pidfile).filter(|other| other.answers);
    let Some(theirs) = theirs else { return Err(format!("no Fail2Ban answers at `{}`", socket.display())) };
    if theirs.is_ours {
        return Err(format!("what answers at `{}` is Sekimori", socket.display()));
    }
    let mut log = failures_of(&socket);
    if let Err(why) = &log {
        note(arguments, &format!("failures are not compared, only bans: {why}"));
    }
    let place = Place::new().map_err(|error| format!("cannot make a folder for a socket: {error}"))?;
    let bans = theirs.bans()?.into_iter().flat_map(|(_, bans)| bans).collect();
    let begin = now();
    handover::leave(&place.socket(), bans, begin).map_err(|error| error.to_string())?;
    let mut ours = Ours::start(&place, read, &options, &settings, directory)?;
    note(arguments, &format!("comparing with {}; nothing is changed", theirs.name()));

    // a failure of the second in which we began may have been counted before
    let mut compare = Compare::new(arguments.grace.as_secs_f64(), Time::from_seconds(begin.seconds() + 1));
    let zone = jiff::tz::TimeZone::system();
    let end = arguments.time.map(|time| Instant::now() + time);
    let mut differences = 0;
    let mut outcome = Ok(());
    while !ours.has_ended() && end.is_none_or(|end| Instant::now() < end) {
        std::thread::sleep(PAUSE);
        let (theirs, our_bans) = match (other::bans(&socket), other::bans(&place.socket())) {
            (Ok(theirs), Ok(ours)) => (theirs, ours),
            // a signal has ended our side
            (_, Err(_)) if ours.ends_soon() => break,
            (Err(why), _) => {
                outcome = Err(format!("Fail2Ban does not answer any more: {why}"));
                break;
            }
            (_, Err(why)) => {
                outcome = Err(format!("our own side does not answer: {why}"));
                break;
            }
        };
        let now = now();
        let mut found = compare.lists(now, [theirs, our_bans]);
        if let Ok(log) = &mut log {
            log.lines(|line| {
                if let Some((jail, id, time)) = told::message(line).and_then(|text| told::found(text, &zone)) {
                    compare.failure(now, Side::Fail2Ban, jail, id, time);
                }
            });
        }
        for message in ours.messages.try_iter() {
            if let Some((jail, id, time)) = told::found(&message, &zone).filter(|_| log.is_ok()) {
                compare.failure(now, Side::Sekimori, jail, id, time);
            }
        }
        found.extend(compare.overdue(now));
        for difference in found {
            differences += 1;
            tell(arguments, &difference, now, &zone);
        }
    }
    ours.stop(&place);
    let (bans, failures, seconds) = (compare.all_bans(), compare.failures, (now() - begin).round());
    if arguments.json {
        let summary = json!({"seconds": seconds, "bans": bans, "failures": failures, "differences": differences,
            "failures_compared": log.is_ok(), "failures_dropped": compare.dropped});
        print(&json!({ "summary": summary }).to_string());
    } else {
        let dropped = match compare.dropped {
            0 => String::new(),
            count => format!(", {count} failure(s) too many to be compared"),
        };
        print(&format!(
            "compared for {seconds} s: {bans} ban(s) and {failures} failure(s) the same, {differences} difference(s){dropped}"
        ));
    }
    outcome.map(|()| differences)
}

/// Fail2Ban's log, if it tells of failures.
fn failures_of(socket: &Path) -> Result<told::Log, String> {
    let mut server = Connection::open(socket, Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    let mut text = |option: &str| -> Result<String, String> {
        let value = other::ask(&mut server, &["get", option])?;
        Ok(value.as_text().unwrap_or_default().to_owned())
    };
    let level = text("loglevel")?;
    if Level::parse(&level).is_none_or(|level| level > Level::INFO) {
        return Err(format!("its log has the level {level}, and INFO tells of them"));
    }
    let target = text("logtarget")?;
    told::Log::open(Path::new(&target)).map_err(|error| format!("its log `{target}` cannot be read: {error}"))
}

/// A folder of our own, for a socket.
struct Place(PathBuf);

impl Place {
    fn new() -> std::io::Result<Place> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("sekimori-shadow-{}", std::process::id()));
        // fails if somebody else has made it
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Place(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // what cannot be removed is empty and harmless
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Our side.
struct Ours {
    thread: Option<std::thread::JoinHandle<Result<(), run::Error>>>,
    messages: Receiver<String>,
}

impl Ours {
    fn start(
        place: &Place,
        read: Configuration,
        options: &Options,
        settings: &Settings,
        directory: PathBuf,
    ) -> Result<Ours, String> {
        let (sender, messages) = channel();
        let logger = Logger::telling(sender, Level::INFO);
        let how = run::Options {
            engine: engine::Options {
                directory,
                compat: settings.compat,
                native_actions: settings.native_actions,
                undecided: settings.undecided,
                undecided_of: settings.undecided_of.clone(),
                dry_run: true,
                database_in_memory: true,
                reading: options.request().options(settings),
            },
            firewall: Firewall::Memory,
            socket: Some(place.socket()),
            pidfile: None,
            group: None,
            background: false,
            logtarget: options.logtarget.clone().unwrap_or_default(),
        };
        let thread =
            std::thread::Builder::new().name("sk/shadow".to_owned()).spawn(move || run::run(&read, how, logger));
        let mut ours = Ours { thread: Some(thread.map_err(|error| error.to_string())?), messages };
        let begun = wait_for_answer(&place.socket(), "status", Instant::now() + BEGIN, || ours.has_ended());
        match begun {
            Some(_) => Ok(ours),
            None => Err(ours.end().unwrap_or_else(|| "our side did not start in time".to_owned())),
        }
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Whether it comes to its end within a moment.
    fn ends_soon(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.has_ended()
    }

    fn stop(&mut self, place: &Place) {
        if let Ok(mut server) = Connection::open(&place.socket(), Some(Duration::from_secs(5))) {
            let _ = server.ask(&[Value::from("stop")]);
        }
        if self.ends_soon() {
            self.end();
        }
    }

    /// Why it has ended, if it was not asked to.
    fn end(&mut self) -> Option<String> {
        match self.thread.take()?.join() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(causes(&error)),
            Err(_) => Some("our side failed".to_owned()),
        }
    }
}

/// A line for whoever reads; who closed it does not want to know.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Something that is no difference.
fn note(arguments: &Arguments, text: &str) {
    if arguments.json {
        eprintln!("{}", escaped(text));
    } else {
        print(&escaped(text));
    }
}

fn tell(arguments: &Arguments, found: &Difference, now: Time, zone: &jiff::tz::TimeZone) {
    let kind = match found.kind {
        Kind::Jail => "jail",
        Kind::Ban => "ban",
        Kind::Unban => "unban",
        Kind::Length => "length",
        Kind::Failure => "failure",
    };
    if arguments.json {
        let only = found.only.name().to_ascii_lowercase();
        let document = json!({"seen": now.seconds(), "difference": kind, "jail": found.jail, "id": found.id, "only": only,
            "time": found.time.seconds(), "bantime": found.bantime});
        return print(&document.to_string());
    }
    let (who, time) = (found.only.name(), day_time(found.time, zone));
    let length = if found.bantime < 0 { "for ever".to_owned() } else { format!("for {} s", found.bantime) };
    let text = match found.kind {
        Kind::Jail => format!("only {who} runs this jail"),
        Kind::Ban if found.bantime == 0 => format!("only {who} banned it, for a moment"),
        Kind::Ban => format!("only {who} banned it, at {time} {length}"),
        Kind::Unban => format!("only {who} has let it in again, banned at {time} {length}"),
        Kind::Length => format!("{who} bans it longer, banned at {time}"),
        Kind::Failure => format!("only {who} found a failure of {time}"),
    };
    let about = if found.id.is_empty() { String::new() } else { format!(" {}:", escaped(&found.id)) };
    print(&format!("{} [{}]{about} {text}", day_time(now, zone), escaped(&found.jail)));
}
