//! Other people's actions: commands, classes in Python, mails; in order, with a deadline.
//!
//! What an administrator wrote for Fail2Ban runs here unchanged. Jails run side by side,
//! within a jail the order holds, and nothing else in the daemon ever waits for an action.

pub mod command;
pub mod hosts;
pub mod mail;
pub mod python;
pub mod queue;
pub mod template;
mod worker;

use std::sync::Arc;

use crate::address::Id;
use crate::control::Value;
use crate::time::Time;

/// How an action does its work.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// By commands.
    Commands(Properties),
    /// By a class in Python.
    Python(Arc<python::Program>),
    /// By mails.
    Mail(mail::Options),
}

impl Work {
    /// Its properties, if they are commands.
    #[must_use]
    pub fn properties(&self) -> Option<&Properties> {
        match self {
            Work::Commands(properties) => Some(properties),
            Work::Python(_) | Work::Mail(_) => None,
        }
    }
}

/// An action that consists of commands: its properties by name.
///
/// `actionban`, `actionstart` … hold the commands, `timeout` their limit, everything else is
/// there to be inserted into them. A name such as `blocktype?family=inet6` is the value for
/// one family only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// The value of a property.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value for an address family, else the value for all.
    #[must_use]
    pub fn get_for(&self, name: &str, family: Option<Family>) -> Option<&str> {
        family.and_then(|family| self.get(&format!("{name}?family={}", family.name()))).or_else(|| self.get(name))
    }

    /// Sets a property, in its old place if it has one.
    pub fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Names and values in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether some property has a value for one family only. Such an action starts on demand.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        self.0.iter().any(|(name, _)| name.contains("?family="))
    }
}

/// Address family, as actions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    Inet4,
    /// IPv6.
    Inet6,
}

impl Family {
    /// `inet4` or `inet6`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Inet4 => "inet4",
            Family::Inet6 => "inet6",
        }
    }
}

/// What an action is told about a ban: values for the tags in its commands.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// Who is banned.
    pub id: Id,
    /// The address, where the identifier is something else.
    pub address: Option<Id>,
    /// Number of failures, 0 for a manual ban.
    pub failures: u64,
    /// When the ban begins, as text (`1795485425.0`).
    pub time: String,
    /// Length of the ban in whole seconds, -1 is for ever.
    pub bantime: i64,
    /// How many bans this one makes.
    pub bancount: u32,
    /// Whether it was restored from the database.
    pub restored: bool,
    /// Matched lines, dates included.
    pub matches: Vec<Arc<str>>,
    /// Captures by lower-case name, as text.
    pub data: Vec<(Arc<str>, String)>,
    /// All of it in Python's notation, where the commands want that.
    pub literal: Option<Literal>,
    /// Earlier bans, where the commands want them.
    pub history: Option<Histories>,
}

impl Ticket {
    /// The family of the address; none for other identifiers.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        self.address().prefix().map(|p| if p.address().is_ipv4() { Family::Inet4 } else { Family::Inet6 })
    }

    /// The address if there is one, else the identifier.
    #[must_use]
    pub fn address(&self) -> &Id {
        self.address.as_ref().unwrap_or(&self.id)
    }
}

/// A ticket as a Python program would print it.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// The tag `<raw-ticket>`.
    pub ticket: String,
    /// The tag `<F-MATCHES>`.
    pub matches: String,
    /// The captures by lower-case name, with their types.
    pub captures: Value,
}

/// The bans of someone that the database knows, the present one among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Histories {
    /// In all jails; `None` if there is no ban.
    pub everywhere: Option<History>,
    /// In this jail.
    pub here: Option<History>,
}

/// Some bans of someone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The last lines, oldest first.
    pub matches: Vec<Arc<str>>,
    /// The sum of the failures.
    pub failures: u64,
}

/// Figures of a jail, and when they were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// When.
    pub now: Time,
    /// The jail's ban time in whole seconds, -1 is for ever.
    pub bantime: i64,
    /// How many sources are being counted.
    pub found: u64,
    /// How many failures there were.
    pub found_total: u64,
    /// How many are banned.
    pub banned: u64,
    /// How many bans there were.
    pub banned_total: u64,
    /// Whether IPv6 is none of this machine's business.
    pub without_ipv6: bool,
}

/// Values of tags that cost something to find out, and whether the commands of a jail mention them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// [`Ticket::history`].
    pub history: bool,
    /// [`Ticket::literal`].
    pub literal: bool,
}

impl Wants {
    /// What these texts, commands and parameters of actions, mention.
    #[must_use]
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Wants {
        texts.fold(Wants::default(), |wants, text| {
            let any = |names: &[&str]| names.iter().any(|name| text.contains(name));
            Wants {
                history: wants.history || any(&["ipmatches", "ipfailures", "ipjailmatches", "ipjailfailures"]),
                literal: wants.literal || any(&["raw-ticket", "F-MATCHES"]),
            }
        })
    }
}
