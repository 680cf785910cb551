//! `sekimori report preview`: the report that the owner of an attacking address would get, made of a log.
//! Nothing is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sha1::{Digest as _, Sha1};

use super::check;
use super::client::{escaped, print};
use super::configuration::default_directory;
use super::regex::failures;
use crate::config::report::{FORMS, LANGUAGES, Report};
use crate::filter::{Failure, Who};
use crate::line::MAX_LINE;
use crate::report::Incident;
use crate::report::mail::{self, Envelope, Form};
use crate::report::redact::{Own, Redactor};
use crate::report::text::{self, Language};
use crate::server::settings;
use crate::time::Time;

/// The log has no such failure.
const NOTHING: u8 = 1;
/// Wrong arguments, or a configuration that cannot be used.
const FAILED: u8 = 255;
/// So many addresses are previewed, those with the most attempts.
const MOST: usize = 20;
/// So many addresses of a log are counted; more are passed over.
const MOST_COUNTED: usize = 5_000;
/// Largest /etc/passwd that is read, in bytes.
const MOST_PASSWD: u64 = 16 << 20;
/// The first user who is a person.
const FIRST_USER: u32 = 1000;
const LAST_USER: u32 = 60_000;

#[derive(Parser, Debug)]
#[command(
    name = "sekimori report",
    about = "Reports to the owners of attacking addresses",
    after_help = "Exit status: 0 done, 1 the log has nothing to report, 255 for anything else."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Shows the reports that a log would give, one for each address; nothing is sent
    Preview(Preview),
}

#[derive(clap::Args, Debug)]
struct Preview {
    /// The log
    log: PathBuf,
    /// The filter, with its parameters if it has some: `sshd`, `sshd[mode=aggressive]`
    filter: String,
    /// Only what this address did
    #[arg(long)]
    address: Option<IpAddr>,
    /// The recipient; without one a stand-in, nobody is looked up
    #[arg(long, value_name = "ADDRESS", default_value = "abuse@network.example")]
    to: String,
    /// The form: text, X-ARF 0.2 or XARF 4
    #[arg(long, value_parser = FORMS)]
    form: Option<String>,
    /// The language
    #[arg(long, value_parser = LANGUAGES)]
    language: Option<String>,
    /// A page for a browser instead of the message
    #[arg(long)]
    html: bool,
    /// Configuration directory
    #[arg(short, long = "conf", value_name = "DIR")]
    conf: Option<PathBuf>,
}

/// What shells and the manual are told.
pub(super) fn description() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let Command::Preview(preview) = match super::parsed::<Arguments>(words) {
        Ok(arguments) => arguments.command,
        Err(code) => return code,
    };
    match run(&preview) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOTHING),
        Err(text) => {
            eprintln!("error: {}", escaped(&text));
            ExitCode::from(FAILED)
        }
    }
}

fn run(preview: &Preview) -> Result<bool, String> {
    let directory = preview.conf.clone().unwrap_or_else(default_directory);
    let (settings, problems) = settings::read(&directory);
    if !problems.is_empty() {
        eprint!("{}", check::report(&problems, &std::collections::HashMap::new(), false));
    }
    let settings = &settings.report;
    let template = match &settings.template {
        Some(path) => {
            let template = read(path, text::MOST_BYTES as u64)?;
            text::check(&template).map_err(|error| format!("{}, {error}", path.display()))?;
            Some(template)
        }
        None => None,
    };
    let incidents = incidents(preview, settings)?;
    if incidents.is_empty() {
        eprintln!("nothing in this log is to be reported");
        return Ok(false);
    }
    let from = settings.from.clone().unwrap_or_else(|| "abuse@own.example".to_owned());
    if settings.from.is_none() {
        eprintln!("warning: `from` is not set in [report] of sekimori.toml; {from} stands in for it");
    }
    let organisation =
        settings.organisation.clone().unwrap_or_else(|| from.rsplit('@').next().unwrap_or("").to_owned());
    let form = match preview.form.as_deref().or(settings.form) {
        Some("x-arf") => Form::Xarf02,
        Some("xarf") => Form::Xarf4,
        _ => Form::Plain,
    };
    let language = match preview.language.as_deref().or(settings.language) {
        Some("ja") => Language::Ja,
        _ => Language::En,
    };
    for incident in incidents {
        let id = uuid::Uuid::new_v4().to_string();
        let envelope = Envelope {
            from: &from,
            reply_to: settings.reply_to.as_deref().unwrap_or(&from),
            to: &preview.to,
            organisation: &organisation,
            opt_out: settings.opt_out.as_deref(),
            source: match language {
                Language::En => "the contact data of your network",
                Language::Ja => "ネットワークの連絡先情報",
            },
            id: &id,
            date: Time::from_micros(jiff::Timestamp::now().as_microsecond()),
        };
        let incident = std::slice::from_ref(&incident);
        let message = mail::message(incident, &envelope, form, language, template.as_deref())?;
        let text = String::from_utf8_lossy(&message.formatted()).replace("\r\n", "\n");
        print(&if preview.html { page(incident, &text) } else { text });
    }
    Ok(true)
}

/// What the addresses of a log did, those with the most attempts first.
fn incidents(preview: &Preview, settings: &Report) -> Result<Vec<Incident>, String> {
    let jail = preview.filter.split('[').next().unwrap_or("");
    let redactor = Redactor::new(own(settings))?;
    let mut found: BTreeMap<IpAddr, Incident> = BTreeMap::new();
    let log = fs::File::open(&preview.log).map_err(|error| format!("{}: {error}", preview.log.display()))?;
    let mut log = BufReader::new(log);
    let mut test = failures::Test::new(&preview.filter, preview.conf.as_deref())?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut log).take(MAX_LINE as u64).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("{}: {error}", preview.log.display()))? == 0 {
            break;
        }
        let cut = line.len() == MAX_LINE && !line.ends_with(b"\n");
        if cut {
            // what is left of it must not look like a line of its own
            log.skip_until(b'\n').map_err(|error| format!("{}: {error}", preview.log.display()))?;
        }
        for failure in test.line(&line, cut) {
            let Some(address) =
                address(failure).filter(|address| preview.address.is_none_or(|wanted| wanted == *address))
            else {
                continue;
            };
            let Some(time) = failure.time else { continue };
            if found.len() >= MOST_COUNTED && !found.contains_key(&address) {
                continue;
            }
            let incident =
                found.entry(address).or_insert_with(|| Incident::new(address, jail, time, settings.destination));
            incident.add(time, &failure.matches, &redactor);
        }
    }
    let mut incidents: Vec<Incident> = found.into_values().collect();
    incidents.sort_by_key(|incident| std::cmp::Reverse(incident.attempts));
    incidents.truncate(MOST);
    Ok(incidents)
}

fn address(failure: &Failure) -> Option<IpAddr> {
    let of = |id: &crate::address::Id| id.prefix().filter(|prefix| prefix.is_host()).map(|prefix| prefix.address());
    match &failure.who {
        Who::Id(id) => of(id).or_else(|| failure.address.as_ref().and_then(of)),
        Who::Name(_) => None,
    }
}

/// What is known of this machine.
fn own(settings: &Report) -> Own {
    let passwd = read(std::path::Path::new("/etc/passwd"), MOST_PASSWD).unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (FIRST_USER..LAST_USER).contains(&number).then(|| name.to_owned())
    };
    let users: BTreeSet<String> = passwd.lines().filter_map(user).collect();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (addresses, mut hosts): (Vec<_>, Vec<_>) =
        settings.own.iter().cloned().partition(|word| word.parse::<IpAddr>().is_ok());
    if let Some(short) = name.split('.').next().filter(|short| *short != name) {
        hosts.push(short.to_owned());
    }
    hosts.push(name);
    let machine = read(std::path::Path::new("/etc/machine-id"), 256).unwrap_or_default();
    let salt = Sha1::digest(format!("sekimori report {machine}")).iter().map(|byte| format!("{byte:02x}")).collect();
    Own { users, hosts, addresses: addresses.iter().filter_map(|word| word.parse().ok()).collect(), salt }
}

fn read(path: &std::path::Path, most: u64) -> Result<String, String> {
    let mut text = String::new();
    let file = fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    file.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

/// A message as a page that loads nothing and runs nothing.
fn page(incidents: &[Incident], text: &str) -> String {
    let escape =
        |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let blocks: String = incidents
        .iter()
        .map(|incident| format!("<pre>{}</pre>\n", escape(&text::block(incident, Language::En))))
        .collect();
    let title = escape(&text::subject(incidents, "preview"));
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>body {{ max-width: 60em; margin: 2em auto; font-family: sans-serif }} pre {{ white-space: pre-wrap; \
         background: #f4f4f4; padding: 1em }}</style>\n<h1>{title}</h1>\n{blocks}<h2>The message</h2>\n<pre>{}</pre>\n",
        escape(text)
    )
}
