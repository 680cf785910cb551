//! The road from log lines to bans: reads the stream, follows the logs, counts, tells the kernel.
//!
//! One thread does it all so far. Bans are not yet remembered across a restart (the kernel goes
//! on with those it has), and there is no control socket.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::action::Properties;
use crate::address::AddressSet;
use crate::control::{Command, Value};
use crate::fail2ban::{compile, date, stock};
use crate::filter::exact::Cache;
use crate::filter::{Clock, Failure, Who, record};
use crate::firewall::{self, Change, Firewall, Scope, Verdict};
use crate::jail::{self, Decision, Jail};
use crate::source::{Delivery, Encoding, Follower, Handler, Method, Note, Pattern, Spec, Start};
use crate::time::Time;

use super::logging::{Level, Logger, shown};
use super::own;
use super::setup::Setup;

/// Longest wait for new lines; ends of bans are looked for that often.
const TICK: Duration = Duration::from_millis(500);

/// So long what was read of the machine's addresses is taken for true, in seconds.
const OWN_FOR: f64 = 60.0;

/// Applies a stream of commands and works until the process ends.
///
/// `firewall` is `auto`, `nftables`, `ipset` or `memory`.
///
/// # Errors
/// If the kernel cannot be told or logs cannot be followed at all. A jail that cannot start is
/// logged and left out.
pub fn run(stream: &[Command], firewall: &str, logger: Logger) -> Result<(), Error> {
    let firewall = firewall::open(firewall.parse()?)?;
    let mut server = Server {
        jails: Vec::new(),
        firewall,
        logger,
        cache: Cache::default(),
        changes: Vec::new(),
        own: own::addresses(),
        own_read: clock().now,
    };
    server.logger.log(Level::INFO, "server", &"-".repeat(50));
    server.logger.log(Level::INFO, "server", &format!("Starting Sekimori v{}", env!("CARGO_PKG_VERSION")));
    let mut setups: Vec<Setup> = Vec::new();
    let mut follower = Follower::new(Method::Inotify)?;
    for command in stream {
        let words: Vec<&str> = command.words.iter().take(2).filter_map(Value::as_text).collect();
        match words[..] {
            ["add", name] => {
                let backend = command.words.get(2).and_then(Value::as_text).unwrap_or("auto");
                setups.push(Setup::new(name.into(), backend.to_owned()));
            }
            ["set" | "multi-set", name] => {
                if let Some(setup) = setups.iter_mut().find(|setup| *setup.name == *name)
                    && let Err(failure) = setup.set(&command.words[2..])
                {
                    let text = failure.arguments.first().and_then(Value::as_text).unwrap_or("wrong value");
                    server.logger.log(Level::ERROR, "transmitter", &format!("jail '{name}': {text}"));
                }
            }
            ["config-error", text] => server.logger.log(Level::ERROR, "server", text),
            ["start", name] => {
                if let Some(setup) = setups.iter().find(|setup| *setup.name == *name) {
                    server.start(setup, &mut follower);
                }
            }
            _ => {}
        }
    }
    server.logger.log(Level::INFO, "server", "Server ready");
    super::notify::notify("READY=1");
    loop {
        while follower.is_ready() {
            follower.turn(&mut server);
        }
        server.expire();
        follower.wait(Some(TICK))?;
    }
}

/// Why the daemon cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No way to the kernel.
    #[error("no firewall: {0}")]
    Firewall(#[from] firewall::Error),
    /// Logs cannot be waited for.
    #[error("cannot follow logs: {0}")]
    Follow(#[from] std::io::Error),
}

struct Server {
    jails: Vec<Running>,
    firewall: Box<dyn Firewall>,
    logger: Logger,
    cache: Cache,
    changes: Vec<Change>,
    /// This machine's addresses, and when they were read.
    own: AddressSet,
    own_read: Time,
}

struct Running {
    name: Arc<str>,
    filter: record::Filter,
    states: HashMap<Arc<Path>, record::State>,
    jail: Jail,
    /// Names of the jail's places in the firewall.
    places: Vec<Arc<str>>,
    /// Addresses and networks of `ignoreip`.
    ignored: AddressSet,
    /// Whether this machine's own addresses are ignored.
    own: bool,
}

fn clock() -> Clock {
    let now = jiff::Timestamp::now();
    Clock { now: Time::from_micros(now.as_microsecond()), zone: jiff::tz::TimeZone::system() }
}

impl Server {
    fn start(&mut self, setup: &Setup, follower: &mut Follower) {
        let name = setup.name.clone();
        if setup.backend.starts_with("systemd") || setup.logs.is_empty() {
            let why = if setup.logs.is_empty() { "it has no log file" } else { "its backend is systemd" };
            let text = format!(
                "Jail '{name}' not started: {why}, and the journal is not read yet; set `logpath` to an existing file and `backend = auto`"
            );
            self.logger.log(Level::ERROR, "jail", &text);
            return;
        }
        let year = u16::try_from(clock().zone.to_datetime(jiff::Timestamp::now()).year()).unwrap_or(1970);
        let filter = match compile::compile(&setup.filter, date::Options::server(year)) {
            Ok(filter) => filter,
            Err(errors) => {
                for error in errors {
                    let text = format!("Jail '{name}' skipped, because of wrong configuration: {error}");
                    self.logger.log(Level::ERROR, "jail", &text);
                }
                return;
            }
        };
        let mut places = Vec::new();
        let mut changes = Vec::new();
        for (action, properties) in &setup.actions {
            match scope(properties) {
                Some(scope) => {
                    let place: Arc<str> =
                        if places.is_empty() { name.clone() } else { format!("{name}/{action}").into() };
                    changes.push(Change::Jail { name: place.clone(), scope });
                    places.push(place);
                }
                None => {
                    let text =
                        format!("jail '{name}': action '{action}' is not run yet, only stock firewall actions are");
                    self.logger.log(Level::WARNING, "actions", &text);
                }
            }
        }
        self.changes.append(&mut changes);
        self.apply();
        let mut jail = Jail::default();
        jail.set_limits(setup.limits.clone());
        let tag = self.jails.len() as u64;
        let encoding = Encoding::from_name(&setup.filter.logencoding).unwrap_or(Encoding::Unchanged);
        for log in &setup.logs {
            let start = if log.tail { Start::Tail } else { Start::Head };
            let pattern = Pattern::Path(log.path.clone());
            follower.add(tag, Spec { pattern, encoding, start, saved: HashMap::new() });
        }
        self.logger.log(Level::INFO, "jail", &format!("Jail '{name}' started"));
        let (ignored, own) = (setup.ignore.set.clone(), setup.ignore.own);
        self.jails.push(Running { name, filter, states: HashMap::new(), jail, places, ignored, own });
    }

    /// Tells the kernel what has gathered.
    fn apply(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return;
        }
        match self.firewall.apply(&changes) {
            Ok(refused) => {
                for (index, error) in refused {
                    let jail = changes[index].jail().clone();
                    self.logger.log(Level::ERROR, "actions", &format!("[{jail}] firewall: {error}"));
                }
            }
            Err(error) => self.logger.log(Level::ERROR, "actions", &format!("firewall: {error}")),
        }
    }

    fn count(&mut self, index: usize, failure: Failure, now: Time) {
        let Who::Id(id) = failure.who.clone() else { return };
        if !(0.0..OWN_FOR).contains(&(now - self.own_read)) {
            (self.own, self.own_read) = (own::addresses(), now);
        }
        let running = &mut self.jails[index];
        let covered = id.prefix().is_some_and(|prefix| running.ignored.covering(prefix).is_some());
        if covered || running.own && id.prefix().is_some_and(|prefix| self.own.covering(prefix).is_some()) {
            let rule = if covered { "ip" } else { "ignoreself rule" };
            let text = format!("[{}] Ignore {} by {rule}", running.name, shown(&id.to_string()));
            self.logger.log(Level::INFO, "filter", &text);
            return;
        }
        let ticket = jail::Ticket::new(failure, id, now);
        // no ban length depends on chance before histories are kept
        let mut random = || 0.0;
        let decisions =
            running.jail.failure(ticket, &jail::Past::default(), &mut jail::Moment { now, random: &mut random });
        self.carry_out(index, decisions, now);
    }

    fn carry_out(&mut self, index: usize, decisions: Vec<Decision>, now: Time) {
        let mut lines: Vec<(Level, &str, String)> = Vec::new();
        let running = &self.jails[index];
        let name = &running.name;
        let default = running.jail.limits().bantime;
        for decision in decisions {
            match decision {
                Decision::Found { id, time } => {
                    let text = format!("[{name}] Found {} - {}", shown(&id.to_string()), self.logger.day_time(time));
                    lines.push((Level::INFO, "filter", text));
                }
                Decision::Ban { ban, .. } => {
                    if let Some(prefix) = jail::prefix_to_ban(&ban.id) {
                        let seconds = ban.end(default).map(|end| (end - now).max(0.001));
                        let places = running.places.iter().cloned();
                        self.changes.extend(places.map(|jail| Change::Ban { jail, prefix, seconds }));
                    }
                    lines.push((Level::NOTICE, "actions", format!("[{name}] Ban {}", shown(&ban.id.to_string()))));
                }
                Decision::Unban { ban, .. } => {
                    if let Some(prefix) = jail::prefix_to_ban(&ban.id) {
                        let places = running.places.iter().cloned();
                        self.changes.extend(places.map(|jail| Change::Unban { jail, prefix }));
                    }
                    lines.push((Level::NOTICE, "actions", format!("[{name}] Unban {}", shown(&ban.id.to_string()))));
                }
                Decision::AlreadyBanned { id, age } if age >= 3.0 => {
                    lines.push((
                        Level::NOTICE,
                        "actions",
                        format!("[{name}] {} already banned", shown(&id.to_string())),
                    ));
                }
                _ => {}
            }
        }
        // the kernel first, then the words
        self.apply();
        for (level, part, text) in lines {
            self.logger.log(level, part, &text);
        }
    }

    fn expire(&mut self) {
        let now = clock().now;
        for index in 0..self.jails.len() {
            let decisions = self.jails[index].jail.expire(now);
            if !decisions.is_empty() {
                self.carry_out(index, decisions, now);
            }
        }
    }
}

impl Handler for Server {
    fn block(&mut self, delivery: &Delivery<'_>) {
        let clock = clock();
        let mut failures = Vec::new();
        for member in delivery.members {
            let index = member.tag as usize;
            let Some(running) = self.jails.get_mut(index) else { continue };
            let state = running.states.entry(delivery.path.clone()).or_default();
            let options = record::Options {
                in_operation: member.in_operation,
                findtime: Some(running.jail.limits().findtime),
                keep_prefix_values: false,
            };
            for line in delivery.block.bytes.split_inclusive(|byte| *byte == b'\n') {
                let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
                let text = String::from_utf8_lossy(&line[..end]);
                running.filter.line(state, &mut self.cache, &text, &clock, options, &mut failures);
            }
            for failure in failures.drain(..) {
                self.count(index, failure, clock.now);
            }
        }
    }

    fn note(&mut self, _members: &[crate::source::Member], path: &Path, note: Note) {
        self.logger.log(Level::DEBUG, "filter", &format!("{}: {note:?}", path.display()));
    }
}

/// What a stock or native action covers; `None` for all others.
fn scope(properties: &Properties) -> Option<Scope> {
    let native = properties.get("native") == Some("true");
    let (ports, protocol, blocktype) = if native {
        let get = |name: &str, default: &str| properties.get(name).unwrap_or(default).to_owned();
        (Some(get("port", "0:65535")), get("protocol", "tcp"), get("blocktype", "drop"))
    } else {
        let found = stock::recognise(properties.iter())?;
        (found.ports, found.protocol, found.blocktype)
    };
    let verdict = if blocktype.to_ascii_lowercase().starts_with("drop") { Verdict::Drop } else { Verdict::Reject };
    let protocols = protocol
        .split([',', ' '])
        .filter(|name| !name.is_empty())
        .map(|name| match name {
            "tcp" => Some(6),
            "udp" => Some(17),
            "sctp" => Some(132),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>();
    let ports = match ports {
        None => Vec::new(),
        Some(text) => text.split([',', ' ']).filter(|part| !part.is_empty()).map(range).collect::<Option<Vec<_>>>()?,
    };
    let everything = ports.is_empty() || ports == [(0, 65535)];
    Some(Scope {
        ports: if everything { Vec::new() } else { ports },
        protocols: if everything { Vec::new() } else { protocols? },
        verdict,
    })
}

/// `22`, `6000:6010`, `6000-6010` or a name of `/etc/services`.
fn range(text: &str) -> Option<(u16, u16)> {
    if let Some((low, high)) = text.split_once([':', '-'])
        && let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>())
    {
        return (low <= high).then_some((low, high));
    }
    if let Ok(port) = text.parse() {
        return Some((port, port));
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?);
        if name != text && !words.any(|alias| alias == text) {
            return None;
        }
        let port = port.split('/').next()?.parse().ok()?;
        Some((port, port))
    })
}
