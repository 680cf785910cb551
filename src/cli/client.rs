//! `fail2ban-client`, also `sekimori client`: sends what people type to a server, ours or Fail2Ban's,
//! and prints the answers. `start`, `restart`, `reload`, `-t` and `-d` are done here.
//!
//! stdout has the answer alone; everything else goes to stderr. Exit codes are Fail2Ban's: 0 and 255.

mod connection;
mod lines;
mod look;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::options::{Options, Parsed, Wrong, parse, seconds};
use super::{background, check, configuration, server, usage};
use crate::config::settings::Compat;
use crate::control::{Failure, FailureKind, Value};
use crate::fail2ban::beautifier::arguments;
use crate::fail2ban::diagnostic::nearest;
use crate::fail2ban::repr::repr;
use crate::server::logging::stamp_millis;
use crate::server::settings;
pub use connection::{Connection, answers};
use lines::Lines;
pub use look::escaped;
use look::{Look, error_document};

/// Fail2Ban's exit code for anything that failed.
pub const FAILED: u8 = 255;
/// Between two looks at whether a server is there, or gone.
const PAUSE: Duration = Duration::from_millis(10);
/// So long a server may take for `pong` while we wait for it.
const PONG: Duration = Duration::from_millis(500);

/// Runs the program; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let program = words.first().map_or("fail2ban-client", |word| base_name(word));
    let options = match parsed(program, words) {
        Ok(options) => options,
        Err(code) => return code,
    };
    run(program, *options)
}

/// The last part of a path.
#[must_use]
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The options; all that can be answered without a server is answered.
///
/// # Errors
/// With the exit code, when nothing is left to do.
pub fn parsed(program: &str, words: &[String]) -> Result<Box<Options>, ExitCode> {
    let failed = |text: &str| {
        print(text);
        complain("Init of command line failed");
        Err(ExitCode::from(FAILED))
    };
    match parse(words.get(1..).unwrap_or_default()) {
        Ok(Parsed::Options(options)) => Ok(options),
        Ok(Parsed::Help) => {
            print(usage::text(program, version()).trim_end());
            Err(ExitCode::SUCCESS)
        }
        Ok(Parsed::Version { short: true }) => {
            print(version());
            Err(ExitCode::SUCCESS)
        }
        Ok(Parsed::Version { short: false }) => {
            print(&format!("Fail2Ban v{}", version()));
            Err(ExitCode::SUCCESS)
        }
        Ok(Parsed::Seconds(text)) => match seconds(&text) {
            Ok(number) => {
                print(&number.to_string());
                Err(ExitCode::SUCCESS)
            }
            Err(text) => failed(&format!("ERROR: {text}")),
        },
        Err(Wrong::Option(option)) => {
            let text = usage::text(program, version());
            complain(&format!("there is no option `{}`, or it lacks its value", escaped(&option)));
            failed(text.trim_end())
        }
        Err(Wrong::Value(text)) => failed(&format!("ERROR: {text}")),
    }
}

/// The version of Fail2Ban that is followed.
fn version() -> &'static str {
    let (settings, _) = settings::read(&configuration::default_directory());
    settings.compat.version()
}

/// Does what the options ask for.
#[must_use]
pub fn run(program: &str, mut options: Options) -> ExitCode {
    if options.dump || options.pretty || options.test {
        let code = options.request().run();
        if !options.test || options.words.is_empty() || code != ExitCode::SUCCESS {
            return code;
        }
    }
    let reads = ["status", "banned", "get", "ping", "version", "stats", "statistic", "statistics"];
    if options.words.last().is_some_and(|word| word == "--json") && reads.contains(&options.words[0].as_str()) {
        options.words.pop();
        options.json = true;
    }
    if options.words.is_empty() && !options.interactive {
        print(usage::text(program, version()).trim_end());
        return ExitCode::from(FAILED);
    }
    let words = std::mem::take(&mut options.words);
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(text) => {
            print(&format!("ERROR: {text} "));
            complain("Init of command line failed");
            return ExitCode::from(FAILED);
        }
    };
    let done = if client.options.interactive { client.converse(program, &words) } else { client.process(&words) };
    if done { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// A line on stdout; whoever closed it does not want to know.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A line on stderr: as Fail2Ban's log has it, or for people.
pub fn complain(text: &str) {
    let mut out = io::stderr().lock();
    let _ = if out.is_terminal() {
        writeln!(out, "error: {}", escaped(text))
    } else {
        let stamp = stamp_millis(jiff::Timestamp::now(), &jiff::tz::TimeZone::system());
        let pid = std::process::id();
        writeln!(out, "{stamp} {:<24}[{pid}]: ERROR   {}", "fail2ban", escaped(text))
    };
}

/// Socket and pid file: what the options say, else the configuration.
///
/// # Errors
/// If the configuration cannot be read; the text says why.
pub fn places(options: &Options) -> Result<(PathBuf, PathBuf), String> {
    let told = options.loglevel.is_some() && options.logtarget.is_some() && options.syslogsocket.is_some();
    match (&options.socket, &options.pidfile) {
        (Some(socket), Some(pidfile)) if told => Ok((socket.clone(), pidfile.clone())),
        (socket, pidfile) => {
            let found = options.request().read_general()?;
            if found.is_fatal() {
                eprint!("{}", check::report(&found.diagnostics, &found.texts, io::stderr().is_terminal()));
                let first = found.diagnostics.first().map_or_else(String::new, |first| first.text.clone());
                return Err(first);
            }
            let or = |told: &Option<PathBuf>, read: &str| told.clone().unwrap_or_else(|| read.into());
            Ok((or(socket, &found.socket), or(pidfile, &found.pidfile)))
        }
    }
}

struct Client {
    options: Options,
    socket: PathBuf,
    pidfile: PathBuf,
    look: Look,
}

impl Client {
    /// Finds out where the server is.
    ///
    /// # Errors
    /// If the configuration says nothing usable about it.
    fn new(options: Options) -> Result<Client, String> {
        let (socket, pidfile) = places(&options)?;
        let look = Look::of_stdout(options.json);
        Ok(Client { options, socket, pidfile, look })
    }

    /// Does one command; true if it went well.
    fn process(&self, words: &[String]) -> bool {
        let list: Vec<&str> = words.iter().map(String::as_str).collect();
        match list[..] {
            ["start"] => self.start(),
            ["restart"] => {
                let stopped = self.send(&["stop".into()], None);
                if stopped && !self.wait_until_gone() {
                    return self.fail("Could not stop server");
                }
                self.start()
            }
            ["restart", ref rest @ ..] => self.reload(&[&["--restart"], rest].concat()),
            ["reload", ref rest @ ..] => self.reload(rest),
            ["ping", time, ..] => match time.trim().parse::<f64>() {
                Ok(limit) => {
                    let limit = Duration::try_from_secs_f64(limit).ok();
                    self.send(&texts(words), limit)
                }
                Err(_) => self.fail(&format!("could not convert string to float: {}", repr(&time.into()))),
            },
            _ => self.send(&texts(words), None),
        }
    }

    /// Something that is not an answer of the server.
    fn fail(&self, text: &str) -> bool {
        if self.look == Look::Json {
            print(&error_document("Client", text));
        }
        complain(text);
        false
    }

    /// Sends a command and prints its answer.
    fn send(&self, words: &[Value], timeout: Option<Duration>) -> bool {
        let answer = Connection::open(&self.socket, timeout).and_then(|mut server| server.ask(words));
        match answer {
            Ok(Ok(value)) => {
                print(&self.look.answer(words, &value));
                true
            }
            Ok(Err(failure)) => {
                // the same twice would be too much for a person
                if !matches!(self.look, Look::Terminal { .. }) {
                    complain(&format!("NOK: {}", arguments(&failure)));
                }
                print(&self.look.failure(&failure));
                self.hint(words, &failure);
                false
            }
            Err(connection::Error::Contact { source }) if words.first().and_then(Value::as_text) == Some("ping") => {
                self.fail(&connection::io_text(&source))
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// For people: what was probably meant.
    fn hint(&self, words: &[Value], failure: &Failure) {
        if !io::stderr().is_terminal() {
            return;
        }
        let word = failure.arguments.first().and_then(Value::as_text).unwrap_or_default();
        let near = match failure.kind {
            FailureKind::UnknownJail => nearest(word, self.jails().iter().map(String::as_str)).map(str::to_owned),
            FailureKind::Exception if word == "Invalid command" => {
                let typed = words.first().and_then(Value::as_text).unwrap_or_default();
                nearest(typed, usage::command_words()).map(str::to_owned)
            }
            _ => None,
        };
        if let Some(near) = near {
            let _ = writeln!(io::stderr(), "help: is `{}` meant?", escaped(&near));
        }
    }

    fn start(&self) -> bool {
        let done = if self.options.foreground == Some(true) {
            server::foreground(&self.options)
        } else {
            background::start(&self.options, &self.socket, &self.pidfile)
        };
        match done {
            Ok(()) => true,
            Err(text) => self.fail(&text),
        }
    }

    /// Reads the files again and sends what they come to.
    fn reload(&self, words: &[&str]) -> bool {
        let known = ["--restart", "--unban", "--if-exists"];
        let count = words.iter().take_while(|word| known.contains(word)).count();
        let (options, names) = words.split_at(count);
        if names.len() > 1 {
            let names = Value::List(names.iter().map(|name| Value::from(*name)).collect());
            return self.fail(&format!("Unexpected argument(s) for reload: {}", repr(&names)));
        }
        if !Connection::open(&self.socket, None)
            .and_then(|mut server| server.ask(&["ping".into()]))
            .is_ok_and(|it| it.is_ok())
        {
            return self.fail("Could not find server");
        }
        let jail = names.first().copied().filter(|name| *name != "--all");
        let mut request = self.options.request();
        request.jail = jail.map(str::to_owned);
        let configuration = match request.read_for_server() {
            Ok(configuration) => configuration,
            Err(text) => return self.fail(&text),
        };
        let colour = io::stderr().is_terminal();
        eprint!("{}", check::report(&configuration.diagnostics, &configuration.texts, colour));
        if configuration.is_fatal() {
            return self.fail("the configuration cannot be used; the server goes on as it is");
        }
        if let Some(name) = jail
            && configuration.jails.is_empty()
        {
            return self.fail(&format!("there is no enabled jail `{name}` in the configuration; see `-d` for all"));
        }
        let stream = configuration.stream.into_iter().map(|command| Value::List(command.words)).collect();
        let options = options.iter().map(|option| Value::from(*option)).collect();
        let command = ["reload".into(), jail.unwrap_or("--all").into(), Value::List(options), Value::List(stream)];
        self.send(&command, None)
    }

    /// After `stop`: until nobody answers and the process has ended.
    fn wait_until_gone(&self) -> bool {
        let end = Instant::now() + self.options.timeout;
        while answers(&self.socket, PONG) || background::running(&self.pidfile).is_some() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }

    /// `-i`: a command a line, until `exit` or the end.
    fn converse(&self, program: &str, first: &[String]) -> bool {
        if !first.is_empty() && !self.process(first) {
            return false;
        }
        print(&format!("Fail2Ban v{} is what this answers to; it is Sekimori.", Compat::default().version()));
        print("Type a command, `help` for all of them, `exit` to leave.\n");
        let mut lines = Lines::open(Box::new(|| self.jails()));
        while let Some(line) = lines.next() {
            match line.trim() {
                "" => {}
                "exit" | "quit" => {
                    lines.close();
                    return true;
                }
                "help" => print(usage::text(program, version()).trim_end()),
                line => match shlex::split(line) {
                    Some(words) => _ = self.process(&words),
                    None => complain("a quote is not closed"),
                },
            }
        }
        print("");
        lines.close();
        true
    }

    /// Names of the server's jails; none if it does not answer.
    fn jails(&self) -> Vec<String> {
        let status = Connection::open(&self.socket, Some(PONG)).and_then(|mut server| server.ask(&["status".into()]));
        let Ok(Ok(status)) = status else { return Vec::new() };
        let names = status.as_list().and_then(|pairs| pairs.get(1)?.as_list()?.get(1)?.as_text());
        names.unwrap_or_default().split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

fn texts(words: &[String]) -> Vec<Value> {
    words.iter().map(|word| Value::from(word.as_str())).collect()
}

/// Waits until `path` answers a command with success; none if `gave_up` says so or the time is over.
pub fn wait_for_answer(path: &Path, command: &str, end: Instant, mut gave_up: impl FnMut() -> bool) -> Option<Value> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let asked = Connection::open(path, Some(left)).and_then(|mut server| server.ask(&[command.into()]));
        if let Ok(Ok(value)) = asked {
            return Some(value);
        }
        if gave_up() || left.is_zero() {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
