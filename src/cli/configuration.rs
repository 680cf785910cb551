//! The client's options that are about reading files only: `-c`, `-d`, `--dp`, `-t`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{check, dump};
use crate::config::settings::{self, Compat, Settings};
use crate::fail2ban::diagnostic::Diagnostic;
use crate::fail2ban::layer::Vendor;
use crate::fail2ban::{self, Configuration, Options, vendor};

/// Fail2Ban's exit code for anything that failed.
const FAILED: u8 = 255;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `-c`; none means the usual places.
    pub directory: Option<PathBuf>,
    /// `-d`.
    pub dump: bool,
    /// `--dp`.
    pub pretty: bool,
    /// `-t`.
    pub test: bool,
    /// `--compat`, instead of what sekimori.toml says.
    pub compat: Option<Compat>,
    /// `--loglevel`.
    pub loglevel: Option<String>,
    /// `--logtarget`.
    pub logtarget: Option<String>,
    /// `--syslogsocket`.
    pub syslogsocket: Option<String>,
}

/// Where the configuration is, without `-c`.
#[must_use]
pub fn default_directory() -> PathBuf {
    let existing = Path::new("/etc/fail2ban");
    if existing.join("jail.conf").exists() { existing.to_owned() } else { PathBuf::from("/etc/sekimori") }
}

/// What lies below any configuration directory.
#[must_use]
pub fn vendor_layers() -> Vec<Vendor> {
    vec![Vendor::Directory(PathBuf::from("/usr/share/sekimori")), Vendor::Embedded(vendor::EMBEDDED)]
}

/// sekimori.toml of the configuration directory, else of /etc/sekimori.
#[must_use]
pub fn settings(directory: &Path) -> (Settings, Vec<Diagnostic>) {
    let near = directory.join("sekimori.toml");
    let path = if near.exists() { near } else { PathBuf::from("/etc/sekimori/sekimori.toml") };
    let (settings, problems) = settings::read(&path);
    let found = problems
        .into_iter()
        .map(|problem| Diagnostic::error(Some(problem.span), problem.text).width(problem.width).help(problem.help));
    (settings, found.collect())
}

impl Request {
    /// Reads everything; findings about sekimori.toml come first.
    ///
    /// # Errors
    /// If the directory that `-c` names does not exist; the text says so.
    pub fn read(&self) -> Result<Configuration, String> {
        let directory = match &self.directory {
            Some(directory) if !directory.is_dir() => {
                return Err(format!("Base configuration directory {} does not exist", directory.display()));
            }
            Some(directory) => directory.clone(),
            None => default_directory(),
        };
        let (settings, problems) = settings(&directory);
        let options = Options {
            compat: self.compat.unwrap_or(settings.compat),
            vendor: vendor_layers(),
            dump: self.dump || self.pretty,
            jail: None,
            even_disabled: false,
            loglevel: self.loglevel.clone(),
            logtarget: self.logtarget.clone(),
            syslogsocket: self.syslogsocket.clone(),
        };
        let mut configuration = fail2ban::read(&directory, &options);
        configuration.diagnostics.splice(0..0, problems);
        if let Some(text) = std::fs::read_to_string(directory.join("sekimori.toml")).ok().filter(|t| !t.is_empty()) {
            configuration.texts.insert(directory.join("sekimori.toml"), text.into());
        }
        Ok(configuration)
    }

    /// Takes the options out of a command line; none if neither dump nor test was asked for.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Option<Request> {
        let mut request = Request::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if let Some(long) = argument.strip_prefix("--") {
                let (name, attached) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v.to_owned())));
                let mut value = || attached.clone().or_else(|| rest.next().cloned());
                match name {
                    "dp" | "dump-pretty" => request.pretty = true,
                    "test" => request.test = true,
                    "conf" => request.directory = value().map(PathBuf::from),
                    "compat" => request.compat = value().and_then(|text| text.parse().ok()),
                    "loglevel" => request.loglevel = value(),
                    "logtarget" => request.logtarget = value(),
                    "syslogsocket" => request.syslogsocket = value(),
                    "socket" | "pidfile" | "pname" | "timeout" => _ = value(),
                    _ => {}
                }
            } else if let Some(short) = argument.strip_prefix('-') {
                for (index, letter) in short.char_indices() {
                    match letter {
                        'd' => request.dump = true,
                        't' => request.test = true,
                        'c' | 's' | 'p' => {
                            let attached = short[index + 1..].to_owned();
                            let value = if attached.is_empty() { rest.next().cloned() } else { Some(attached) };
                            if letter == 'c' {
                                request.directory = value.map(PathBuf::from);
                            }
                            break;
                        }
                        _ => {}
                    }
                }
            }
        }
        (request.dump || request.pretty || request.test).then_some(request)
    }

    /// Dumps or tests, as asked for.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let configuration = match self.read() {
            Ok(configuration) => configuration,
            Err(text) => {
                eprintln!("ERROR: {text}");
                return ExitCode::from(FAILED);
            }
        };
        let mut findings = configuration.diagnostics.clone();
        if self.test {
            findings.extend(fail2ban::values::check(&configuration));
        }
        let colour = std::io::stderr().is_terminal();
        eprint!("{}", check::report(&findings, &configuration.texts, colour));
        if self.dump || self.pretty {
            if let Err(error) = dump::print(&configuration, self.pretty) {
                eprintln!("ERROR: cannot write: {error}");
                return ExitCode::from(FAILED);
            }
            return if configuration.is_fatal() || configuration.lost_all_jails() {
                ExitCode::from(FAILED)
            } else {
                ExitCode::SUCCESS
            };
        }
        if findings.iter().any(|found| found.severity >= fail2ban::diagnostic::Severity::Error) {
            eprintln!("ERROR: test configuration failed");
            return ExitCode::from(FAILED);
        }
        println!("OK: configuration test is successful");
        ExitCode::SUCCESS
    }
}
