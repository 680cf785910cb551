//! `sekimori takeover`: from a running Fail2Ban to us, and with `--back` the other way, without a moment in which
//! somebody who is banned gets through.
//!
//! The bans go into our table in the kernel first; it needs no process. Only then one server stops and the other starts.
//! Whatever ends this program on the way, the kernel goes on banning, and the command can be given again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;

mod back;
pub(super) mod other;

use other::Other;

use super::client::{FAILED, escaped, wait_for_answer};
use super::options::{self, Options};
use super::{background, check, server};
use crate::fail2ban::Configuration;
use crate::server::handover::{self, Handed};
use crate::server::run::Kind;
use crate::server::settings;
use crate::server::takeover::{self, Planned, Shelter, leftovers, program};
use crate::time::Time;

/// After a change that did not come to its end.
const UNFINISHED: u8 = 1;
/// Units of systemd.
const OUR_UNIT: &str = "sekimori.service";
const THEIR_UNIT: &str = "fail2ban.service";

#[derive(Parser, Clone, Debug)]
#[command(
    name = "sekimori takeover",
    about = "Takes over from a running Fail2Ban without letting anybody in who is banned, or goes back to it",
    disable_version_flag = true,
    after_help = "The bans are put into the kernel first; then one server stops and the other starts. Fail2Ban may also have \
                  been killed: its database is read then, and chains and sets that it left behind are taken away.\n\
                  Exit codes: 0 done; 1 the change did not come to its end, which is said; 255 nothing was changed."
)]
struct Arguments {
    /// Go back: Fail2Ban starts and restores all bans before ours are taken out of the kernel
    #[arg(long)]
    back: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Configuration directory of both
    #[arg(short, long, value_name = "DIR")]
    conf: Option<PathBuf>,
    /// Control socket of both, instead of the configured one
    #[arg(short, long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Pid file of both, instead of the configured one
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Where our bans go: auto, nftables or ipset
    #[arg(long, value_name = "KIND")]
    firewall: Option<String>,
    /// How long a server may take to stop, or to start
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = seconds)]
    timeout: Duration,
}

/// A length of time as Fail2Ban writes it.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = options::seconds(text)?.as_f64();
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// What shells and the manual are told.
pub(super) fn description() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Why it ended early.
enum Early {
    /// Nothing was changed.
    Nothing(String),
    /// Something was.
    Unfinished(String),
}

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let arguments = match super::parsed::<Arguments>(words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let back = arguments.back;
    let outcome = Change::prepare(arguments).and_then(|change| if back { change.back() } else { change.forth() });
    let (text, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Early::Nothing(text)) => (text, FAILED),
        Err(Early::Unfinished(text)) => (text, UNFINISHED),
    };
    eprintln!("error: {}", escaped(&text));
    ExitCode::from(code)
}

/// All that is known before anything is done.
struct Change {
    dry_run: bool,
    timeout: Duration,
    /// For starting ours.
    options: Options,
    directory: PathBuf,
    socket: PathBuf,
    pidfile: PathBuf,
    database: Option<PathBuf>,
    jails: Vec<Planned>,
    kind: Kind,
    /// Units of systemd are of the usual places.
    usual: bool,
}

fn now() -> Time {
    Time::from_micros(jiff::Timestamp::now().as_microsecond())
}

impl Change {
    fn prepare(arguments: Arguments) -> Result<Change, Early> {
        let usual = arguments.conf.is_none() && arguments.socket.is_none() && arguments.pidfile.is_none();
        let options = Options {
            conf: arguments.conf,
            socket: arguments.socket,
            pidfile: arguments.pidfile,
            firewall: arguments.firewall,
            timeout: arguments.timeout,
            ..Options::default()
        };
        let request = options.request();
        let directory = request.place().map_err(Early::Nothing)?;
        let (settings, _) = settings::read(&directory);
        let read = request.read_for_server().map_err(Early::Nothing)?;
        if read.is_fatal() || read.lost_all_jails() {
            eprint!("{}", check::report(&read.diagnostics, &read.texts, false));
            return Err(Early::Nothing(format!("`{}` cannot be used; nothing was changed", directory.display())));
        }
        if read.has_errors() {
            say("the configuration has errors, `sekimori client -t` shows them; jails that have one are left out");
        }
        let kind = server::kind(&options, &settings).map_err(Early::Nothing)?;
        if kind == Kind::Memory {
            return Err(Early::Nothing("with the firewall `memory` nobody would be shut out".to_owned()));
        }
        Ok(Change {
            dry_run: arguments.dry_run,
            timeout: arguments.timeout,
            socket: options.socket.clone().unwrap_or_else(|| read.socket.clone().into()),
            pidfile: options.pidfile.clone().unwrap_or_else(|| read.pidfile.clone().into()),
            database: database(&read),
            jails: takeover::plan(&read.stream, settings.native_actions),
            directory,
            options,
            kind,
            usual,
        })
    }

    /// Announces a step; whether it is to be done.
    fn does(&self, step: &str) -> bool {
        say(&if self.dry_run { format!("would {step}") } else { step.to_owned() });
        !self.dry_run
    }

    /// From Fail2Ban to us.
    fn forth(&self) -> Result<(), Early> {
        let there = Other::find(&self.socket, &self.pidfile);
        if let Some(other) = there.as_ref().filter(|other| other.is_ours) {
            return Err(Early::Nothing(format!("Sekimori runs already: {}", other.name())));
        }
        let listed = match &there {
            Some(other) => {
                say(&format!("Fail2Ban runs: {}, socket {}", other.name(), self.socket.display()));
                match other.bans() {
                    Ok(listed) => Some(listed),
                    Err(why) => {
                        say(&format!("it does not tell its bans ({why}); its database is read instead"));
                        None
                    }
                }
            }
            None => {
                say("Fail2Ban does not run; its database and what it may have left in the kernel are looked at");
                None
            }
        };
        self.tell_of_jails(listed.as_deref());
        let listed: Option<Vec<Handed>> = listed.map(|jails| jails.into_iter().flat_map(|(_, bans)| bans).collect());
        let bans = self.all(listed.as_deref())?;
        let natives = self.jails.iter().filter(|jail| jail.is_native()).count();
        let mut shelter = None;
        if self.does(&format!("put {} ban(s) of {natives} jail(s) into our table in the kernel", bans.len())) {
            let opened = Shelter::open(self.kind, &self.jails, &bans, now()).map_err(Early::Nothing)?;
            say(&format!("they are in force: {}", opened.describe()));
            shelter = Some(opened);
        }
        // only what a living server said is more than the database has
        let more = listed.unwrap_or_default();
        if !more.is_empty() && !self.dry_run {
            handover::leave(&self.socket, more.clone(), now()).map_err(|error| {
                let text = "Fail2Ban goes on; the bans are in the kernel twice, ours until their end";
                Early::Unfinished(format!("cannot write the list of bans for Sekimori: {error}. {text}"))
            })?;
        }
        if let Some(other) = &there {
            self.stop(other, &["stop"])?;
        }
        let late = self.late(&bans, shelter.as_mut())?;
        self.clean(there.as_ref());
        if self.does(&format!("start Sekimori and hand {} ban(s) over to it", bans.len() + late)) {
            // the directory may have gone with the other server
            if !more.is_empty() {
                handover::leave(&self.socket, more, now()).map_err(|error| {
                    Early::Unfinished(format!("cannot leave the bans for Sekimori: {error}; {}", self.way_back()))
                })?;
            }
            // what is not removed stays in the kernel
            drop(shelter);
            self.start_ours().map_err(|why| {
                Early::Unfinished(format!(
                    "Sekimori did not start: {why}. The bans stay in the kernel; {}",
                    self.way_back()
                ))
            })?;
            let bans = other::bans(&self.socket).map_err(Early::Unfinished)?;
            let count: usize = bans.iter().map(|(_, bans)| bans.len()).sum();
            let process = Other::find(&self.socket, &self.pidfile).map_or_else(String::new, |other| other.name());
            say(&format!("Sekimori runs: {process}, {count} ban(s) in {} jail(s)", bans.len()));
        }
        if self.usual && unit_exists(THEIR_UNIT) {
            say("so that Fail2Ban does not start again with the machine: systemctl disable fail2ban");
        }
        Ok(())
    }

    fn way_back(&self) -> String {
        "correct that and give the command again, or go back with `sekimori takeover --back`".to_owned()
    }

    /// What is to be known about single jails.
    fn tell_of_jails(&self, listed: Option<&[(String, Vec<Handed>)]>) {
        for jail in &self.jails {
            if !jail.commands.is_empty() {
                let name = escaped(&jail.name);
                say(&format!(
                    "jail {name}: {} run(s) as commands; what they do is undone by the one server and done again by the other",
                    escaped(&jail.commands.join(", "))
                ));
            }
        }
        for (name, bans) in listed.unwrap_or_default() {
            if !self.jails.iter().any(|jail| *jail.name == **name) {
                let (name, count) = (escaped(name), bans.len());
                say(&format!("jail {name} is not in the configuration: its {count} ban(s) end with the other server"));
            }
        }
    }

    /// What a living server lists, and what the database has besides.
    fn all(&self, listed: Option<&[Handed]>) -> Result<Vec<Handed>, Early> {
        let mut bans = listed.unwrap_or_default().to_vec();
        bans.retain(|ban| self.jails.iter().any(|jail| *jail.name == *ban.jail));
        let Some(database) = self.database.as_deref().filter(|path| path.exists()) else { return Ok(bans) };
        match takeover::stored(database, &self.jails, now()) {
            Ok(stored) => {
                let known: BTreeSet<(String, String)> =
                    bans.iter().map(|ban| (ban.jail.clone(), ban.id.clone())).collect();
                bans.extend(stored.into_iter().filter(|ban| !known.contains(&(ban.jail.clone(), ban.id.clone()))));
                Ok(bans)
            }
            Err(why) if listed.is_some() => {
                say(&format!("the database cannot be read: {}", escaped(&why)));
                Ok(bans)
            }
            Err(why) => Err(Early::Nothing(why)),
        }
    }

    fn stop(&self, other: &Other, command: &[&str]) -> Result<(), Early> {
        // what the kernel shall keep, only the command can say
        let unit = if command.len() > 1 { None } else { other.unit(THEIR_UNIT) };
        let how = match unit {
            Some(unit) => format!("systemctl stop {unit}"),
            None if other.answers => format!("`{}` at its socket", command.join(" ")),
            None if other.is_ours => "SIGKILL, which leaves its bans in the kernel".to_owned(),
            None => "SIGTERM".to_owned(),
        };
        let name = if other.is_ours { "Sekimori" } else { "Fail2Ban" };
        if self.does(&format!("stop {name} ({how})")) {
            other.stop(command, unit, self.timeout).map_err(|why| {
                Early::Unfinished(format!("{why}. Its bans are in the kernel twice, which does no harm; try again"))
            })?;
            say(&format!("{name} has ended"));
        }
        Ok(())
    }

    /// Bans that were made while the server was being stopped.
    fn late(&self, bans: &[Handed], shelter: Option<&mut Shelter>) -> Result<usize, Early> {
        let Some(shelter) = shelter else { return Ok(0) };
        let mut late = self.all(None).unwrap_or_default();
        let known: BTreeSet<(&str, &str)> = bans.iter().map(|ban| (&*ban.jail, &*ban.id)).collect();
        late.retain(|ban| !known.contains(&(&*ban.jail, &*ban.id)));
        if !late.is_empty() {
            shelter.add(&self.jails, &late, now()).map_err(Early::Unfinished)?;
            say(&format!("{} more ban(s) were made in the meantime; they are in force too", late.len()));
        }
        Ok(late.len())
    }

    /// Takes away what Fail2Ban left in the kernel.
    fn clean(&self, stopped: Option<&Other>) {
        let stopped = stopped.and_then(|other| other.pid).map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
        let strangers: Vec<String> = other::strangers()
            .into_iter()
            .filter(|pid| !self.dry_run || Some(*pid) != stopped)
            .map(|pid| pid.to_string())
            .collect();
        if !strangers.is_empty() {
            let list = strangers.join(", ");
            return say(&format!("another Fail2Ban runs (process {list}): chains and sets f2b-* are left to it"));
        }
        if self.dry_run && stopped.is_some() {
            return say("would take away what Fail2Ban leaves in the kernel, if it leaves anything");
        }
        let found = leftovers::find();
        for kept in &found.kept {
            say(&format!("left alone: {}", escaped(kept)));
        }
        for leftover in &found.removable {
            if self.does(&format!("take away what Fail2Ban left behind: {}", escaped(&leftover.what)))
                && let Err(why) = leftover.remove()
            {
                say(&format!("  it stays: {}", escaped(&why)));
            }
        }
    }

    fn start_ours(&self) -> Result<(), String> {
        if self.usual && unit_exists(OUR_UNIT) {
            return start_unit(OUR_UNIT, &self.socket, self.timeout);
        }
        background::start(&self.options, &self.socket, &self.pidfile)
    }
}

/// One step, for whoever watches.
fn say(text: &str) {
    println!("{text}");
}

/// The file that both keep their state in; none if it is only in memory.
fn database(read: &Configuration) -> Option<PathBuf> {
    let file = server::value(read, "dbfile")?;
    (!file.eq_ignore_ascii_case("none") && file != ":memory:").then(|| file.into())
}

fn unit_exists(unit: &str) -> bool {
    if !Path::new("/run/systemd/system").is_dir() {
        return false; // systemd is here, but does not run this machine
    }
    let asked = program("systemctl").args(["cat", "--", unit]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Starts a unit and waits for its server.
fn start_unit(unit: &str, socket: &Path, patience: Duration) -> Result<(), String> {
    let done = program("systemctl").args(["start", "--", unit]).status();
    if !done.is_ok_and(|status| status.success()) {
        return Err(format!("`systemctl start {unit}` failed"));
    }
    let answer = wait_for_answer(socket, "server-status", Instant::now() + patience, || false);
    answer.map(|_| ()).ok_or_else(|| format!("it does not answer at `{}`", socket.display()))
}
