//! The client's options that are about reading files only: `-c`, `-d`, `--dp`, `-t`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{check, dump};
use crate::config::settings::{Compat, Settings};
use crate::control::Value;
use crate::fail2ban::layer::Vendor;
use crate::fail2ban::{self, Configuration, Options, vendor};
use crate::server::settings;

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
    /// Only this jail.
    pub jail: Option<String>,
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

/// Without a fail2ban.conf nobody expects files of Fail2Ban's names; then they are ours.
fn own_places(configuration: &mut Configuration, directory: &Path) {
    if ["fail2ban.conf", "fail2ban.local", "fail2ban.d"].iter().any(|name| directory.join(name).exists()) {
        return;
    }
    "/run/sekimori/sekimori.sock".clone_into(&mut configuration.socket);
    "/run/sekimori/sekimori.pid".clone_into(&mut configuration.pidfile);
    for command in &mut configuration.stream {
        if let [Value::Text(set), Value::Text(option), Value::Text(value)] = &mut command.words[..]
            && set == "set"
        {
            match (option.as_str(), value.as_str()) {
                ("logtarget", "/var/log/fail2ban.log") => "/var/log/sekimori.log".clone_into(value),
                ("dbfile", "/var/lib/fail2ban/fail2ban.sqlite3") => {
                    "/var/lib/sekimori/sekimori.sqlite3".clone_into(value);
                }
                _ => {}
            }
        }
    }
}

impl Request {
    /// Where the configuration is.
    ///
    /// # Errors
    /// If the directory that `-c` names does not exist; the text says so.
    pub fn place(&self) -> Result<PathBuf, String> {
        match &self.directory {
            Some(directory) if !directory.is_dir() => {
                Err(format!("Base configuration directory {} does not exist", directory.display()))
            }
            Some(directory) => Ok(directory.clone()),
            None => Ok(default_directory()),
        }
    }

    /// Reads fail2ban.conf alone, which says where the server is.
    ///
    /// # Errors
    /// As of [`Request::place`].
    pub fn read_general(&self) -> Result<Configuration, String> {
        let directory = self.place()?;
        let (settings, _) = settings::read(&directory);
        let mut configuration = fail2ban::read_general(&directory, &self.options(&settings));
        own_places(&mut configuration, &directory);
        Ok(configuration)
    }

    /// Reads what a server is to be started with: without a fail2ban.conf all files are Sekimori's own.
    ///
    /// # Errors
    /// As of [`Request::place`].
    pub fn read_for_server(&self) -> Result<Configuration, String> {
        let mut configuration = self.read()?;
        own_places(&mut configuration, &self.place()?);
        Ok(configuration)
    }

    /// How everything is read.
    #[must_use]
    pub fn options(&self, settings: &Settings) -> Options {
        Options {
            compat: self.compat.unwrap_or(settings.compat),
            vendor: vendor_layers(),
            dump: self.dump || self.pretty,
            jail: self.jail.clone(),
            even_disabled: false,
            loglevel: self.loglevel.clone(),
            logtarget: self.logtarget.clone(),
            syslogsocket: self.syslogsocket.clone(),
        }
    }

    /// Reads everything; findings about sekimori.toml come first.
    ///
    /// # Errors
    /// As of [`Request::place`].
    pub fn read(&self) -> Result<Configuration, String> {
        let directory = self.place()?;
        let (settings, problems) = settings::read(&directory);
        let options = self.options(&settings);
        let mut configuration = fail2ban::read(&directory, &options);
        let strangers = settings::strangers(&settings, &directory, &options);
        configuration.diagnostics.splice(0..0, problems.into_iter().chain(strangers));
        let path = settings::path(&directory);
        if let Some(text) = std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty()) {
            configuration.texts.insert(path, text.into());
        }
        Ok(configuration)
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
