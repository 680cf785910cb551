//! Bans into the kernel, many in one transaction.
//!
//! The kernel ends a ban by itself (element timeouts); our clock only keeps the books.
//! nftables is spoken to natively by netlink, ipset is the backend for hosts where only
//! iptables is at home, and `memory` tells nobody.

pub mod ipset;
pub mod memory;
mod names;
mod net_effect;

mod netlink;
pub mod nftables;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::address::Prefix;

/// What is asked of a firewall. Order within one [`Firewall::apply`] is kept per jail.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A jail exists from now on (or has a new scope); its bans, if any, stay.
    Jail {
        /// Name of the jail's place in the firewall: the jail's name, or jail and action.
        name: Arc<str>,
        /// What its bans cover.
        scope: Scope,
    },
    /// A jail is gone, and all its bans with it.
    RemoveJail(Arc<str>),
    /// Shut out; an existing ban of the same prefix gets the new length.
    Ban {
        /// The jail.
        jail: Arc<str>,
        /// Whom.
        prefix: Prefix,
        /// Remaining seconds; `None` is for ever. Nothing left (zero or less) lets in.
        seconds: Option<f64>,
    },
    /// Let in again; no ban is no error.
    Unban {
        /// The jail.
        jail: Arc<str>,
        /// Whom.
        prefix: Prefix,
    },
    /// End all bans of a jail.
    Flush(Arc<str>),
}

impl Change {
    /// The jail it is about.
    #[must_use]
    pub fn jail(&self) -> &Arc<str> {
        match self {
            Change::Jail { name: jail, .. }
            | Change::RemoveJail(jail)
            | Change::Flush(jail)
            | Change::Ban { jail, .. }
            | Change::Unban { jail, .. } => jail,
        }
    }
}

/// What the bans of a jail cover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Port ranges, inclusive, both ends 0 to 65535; empty means every protocol and port.
    pub ports: Vec<(u16, u16)>,
    /// Transport protocols the ports belong to, as IP protocol numbers (6 TCP, 17 UDP …).
    pub protocols: Vec<u8>,
    /// What happens to a packet.
    pub verdict: Verdict,
}

/// What happens to a packet of someone who is banned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Dropped without an answer.
    #[default]
    Drop,
    /// Answered with ICMP port unreachable, limited in rate.
    Reject,
    /// TCP connections are answered with a reset.
    RejectReset,
}

/// A ban as the kernel holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The jail.
    pub jail: Arc<str>,
    /// Who is shut out.
    pub prefix: Prefix,
    /// Seconds left; `None` is for ever.
    pub seconds: Option<f64>,
}

/// What the kernel holds, as far as it was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The bans, in no order.
    pub bans: Vec<Held>,
    /// Whether that is all of them. Listing a big set costs the kernel time that grows with
    /// the square of its size, so the reading stops somewhere.
    pub complete: bool,
}

/// Somebody else took our rules away; they are back, the bans must be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The program that did it, where the kernel said so (`nft`).
    pub by: Option<String>,
}

/// A way to tell the kernel.
///
/// At start announce all jails ([`Change::Jail`]) in the first [`apply`](Firewall::apply), with
/// the stored bans behind them: what an earlier run left goes on shutting out until then, and
/// what that call does not announce is taken away.
pub trait Firewall: Send {
    /// Carries out all changes in as few transactions as possible.
    ///
    /// # Errors
    /// Only if nothing could be done at all. What concerns single changes is returned: their
    /// index in `changes` and the reason, the others are in effect.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, Error)>, Error>;

    /// What is banned according to the kernel; stops at some 65,000 bans.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn banned(&mut self) -> Result<Listing, Error>;

    /// Takes everything of ours out of the kernel.
    ///
    /// # Errors
    /// If something had to stay.
    fn remove(&mut self) -> Result<(), Error>;

    /// Looks whether somebody took our rules away and, if so, puts them up again, empty; the
    /// caller then sends all bans once more. Cheap; call it when [`watch`](Firewall::watch)
    /// becomes readable and every few seconds besides.
    ///
    /// # Errors
    /// If the kernel cannot be asked or the rules cannot be put up.
    fn heal(&mut self) -> Result<Option<Damage>, Error> {
        Ok(None)
    }

    /// Becomes readable when [`heal`](Firewall::heal) may have something to do. Nothing where
    /// nobody else can do damage, or where only asking helps.
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// For the log: which kernel interface, and what it can do.
    fn describe(&self) -> String;
}

/// Which kernel interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// nftables, else ipset.
    #[default]
    Auto,
    /// nftables by netlink.
    Nftables,
    /// ipset by netlink, its rules by `iptables` and `ip6tables`.
    Ipset,
    /// None: only remembers.
    Memory,
}

impl std::str::FromStr for Kind {
    type Err = Error;

    /// `auto`, `nftables`, `ipset` or `memory`.
    fn from_str(text: &str) -> Result<Kind, Error> {
        Ok(match text {
            "auto" => Kind::Auto,
            "nftables" => Kind::Nftables,
            "ipset" => Kind::Ipset,
            "memory" => Kind::Memory,
            _ => return Err(Error::UnknownKind(text.to_owned())),
        })
    }
}

/// Opens a way to the kernel.
///
/// # Errors
/// If CAP_NET_ADMIN is missing, or the kernel has not what the kind needs.
pub fn open(kind: Kind) -> Result<Box<dyn Firewall>, Error> {
    match kind {
        Kind::Memory => Ok(Box::new(memory::Memory::default())),
        Kind::Nftables => Ok(Box::new(nftables::Nftables::open(nftables::Options::default())?)),
        Kind::Ipset => Ok(Box::new(ipset::Ipset::open(ipset::Options::default())?)),
        Kind::Auto => match nftables::Nftables::open(nftables::Options::default()) {
            Ok(firewall) => Ok(Box::new(firewall)),
            // Without the right to, ipset would say the same; and two programs on one table is
            // a mistake that must be seen.
            Err(error @ (Error::Permission(_) | Error::Owned(_))) => Err(error),
            Err(first) => match ipset::Ipset::open(ipset::Options::default()) {
                Ok(firewall) => Ok(Box::new(firewall)),
                Err(second) => Err(Error::Neither { nftables: Box::new(first), ipset: Box::new(second) }),
            },
        },
    }
}

/// Why the kernel could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not allowed: CAP_NET_ADMIN is missing.
    #[error("{0}: not permitted; CAP_NET_ADMIN is needed")]
    Permission(&'static str),
    /// Another running program holds the table.
    #[error("table `{0}` belongs to another running program; is Sekimori running already?")]
    Owned(String),
    /// The kernel answered with an error.
    #[error("{what}")]
    Kernel {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The jail's set holds as many bans as it may.
    #[error("the set of jail `{0}` is full")]
    Full(Arc<str>),
    /// A change names a jail that was not announced.
    #[error("no jail `{0}` in the firewall")]
    NoJail(Arc<str>),
    /// A program that sets up the rules failed.
    #[error("`{program}` failed: {text}")]
    Program {
        /// Which.
        program: String,
        /// What it said, shortened.
        text: String,
    },
    /// Neither backend can be used.
    #[error("no usable firewall; nftables: {}; ipset: {}", chain(nftables), chain(ipset))]
    Neither {
        /// What nftables said.
        nftables: Box<Error>,
        /// What ipset said.
        ipset: Box<Error>,
    },
    /// No backend of that name.
    #[error("no firewall `{0}`; there are auto, nftables, ipset and memory")]
    UnknownKind(String),
    /// A set of the name we need is there and not one of ours.
    #[error("set `{0}` of ipset is there already and is not of our kind; if nothing needs it: `ipset destroy {0}`")]
    Foreign(String),
}

/// An error and its causes in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
