//! `sekimori contact`: who is responsible for an address, who says so, and why others were rejected.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use serde_json::{Value as Json, json};

use super::check;
use super::client::{escaped, print};
use super::configuration::default_directory;
use crate::lookup::{Finding, Lookup, Verdict, written};
use crate::server::settings;
use crate::time::Time;

/// Nobody is responsible, or nobody is to be told.
const NOBODY: u8 = 1;
/// A source did not answer.
const NO_ANSWER: u8 = 2;
/// Wrong arguments, or a configuration that cannot be used.
const FAILED: u8 = 255;
/// So many addresses may be asked for at a time.
const MOST: usize = 1000;

#[derive(Parser, Debug)]
#[command(
    name = "sekimori contact",
    about = "Finds out who is responsible for an address, and who says so",
    after_help = "Asks the table [contact.table] of sekimori.toml, the DNS zone of abuse contacts, and the registries (RDAP), in this \
                  order.\n\nExit status: 0 if there is a contact for each address, 1 if there is none, 2 if somebody did not answer, \
                  255 for anything else."
)]
struct Arguments {
    /// The addresses
    #[arg(required = true, num_args = 1..)]
    addresses: Vec<IpAddr>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Configuration directory, with sekimori.toml
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
    let arguments = match super::parsed::<Arguments>(words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(text) => {
            eprintln!("error: {}", escaped(&text));
            ExitCode::from(FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, String> {
    if arguments.addresses.len() > MOST {
        return Err(format!("more than {MOST} addresses"));
    }
    let directory = arguments.conf.clone().unwrap_or_else(default_directory);
    let (settings, problems) = settings::read(&directory);
    if !problems.is_empty() {
        eprint!("{}", check::report(&problems, &std::collections::HashMap::new(), false));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot begin: {error}"))?;
    let mut worst = 0;
    runtime.block_on(async {
        let lookup = Lookup::new(&settings.contact)?;
        for address in &arguments.addresses {
            let finding = lookup.contacts(*address, now()).await;
            worst = worst.max(match finding.verdict {
                Verdict::Contacts(..) => 0,
                Verdict::Never(_) | Verdict::Nobody => NOBODY,
                Verdict::NoAnswer(_) => NO_ANSWER,
            });
            let text = if arguments.json { document(&finding).to_string() } else { told(&finding) };
            print(&text);
        }
        Ok(worst)
    })
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time::from_f64(since.as_secs_f64())
}

/// For people.
fn told(finding: &Finding) -> String {
    let mut text = finding.address.to_string();
    // writing to a string cannot fail
    match &finding.verdict {
        Verdict::Contacts(contacts, source) => {
            for contact in contacts {
                let _ = write!(text, "\n  contact  {contact}  (from {})", source.name());
            }
        }
        Verdict::Never(why) => _ = write!(text, "\n  nobody is told: {why}"),
        Verdict::Nobody => text.push_str("\n  no contact is known"),
        Verdict::NoAnswer(seconds) => _ = write!(text, "\n  no answer; ask again in {seconds} s"),
    }
    if let Some(network) = finding.network {
        let _ = write!(text, "\n  network  {}", written(network));
    }
    for asked in &finding.asked {
        let source = asked.source.name();
        if let Some(why) = &asked.silent {
            let _ = write!(text, "\n  {source}: {why}");
        } else if asked.named.is_empty() {
            let _ = write!(text, "\n  {source}: names nobody");
        }
        for (named, unusable) in &asked.named {
            if let Some(why) = unusable {
                let _ = write!(text, "\n  {source}: `{}` rejected: {why}", named.escape_debug());
            }
        }
    }
    escaped(&text)
}

/// For programs.
fn document(finding: &Finding) -> Json {
    let (verdict, contacts, source, why, retry) = match &finding.verdict {
        Verdict::Contacts(contacts, source) => ("contacts", &contacts[..], Some(*source), None, None),
        Verdict::Never(why) => ("never", &[][..], None, Some(why), None),
        Verdict::Nobody => ("nobody", &[][..], None, None, None),
        Verdict::NoAnswer(seconds) => ("no_answer", &[][..], None, None, Some(*seconds)),
    };
    let asked: Vec<Json> = finding
        .asked
        .iter()
        .map(|asked| {
            let named = asked.named.iter().map(|(text, unusable)| {
                json!({ "address": text, "rejected": unusable.map(|unusable| unusable.to_string()) })
            });
            json!({ "source": asked.source, "silent": asked.silent, "named": named.collect::<Vec<Json>>() })
        })
        .collect();
    json!({
        "address": finding.address.to_string(),
        "verdict": verdict,
        "contacts": contacts.iter().map(|contact| contact.as_str()).collect::<Vec<_>>(),
        "source": source,
        "network": finding.network.map(written),
        "reason": why,
        "retry_after": retry,
        "asked": asked,
    })
}
