//! Bans into the kernel, many in one transaction.
//!
//! The kernel ends a ban by itself (element timeouts); our clock only keeps the books.

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
        /// Remaining seconds; `None` is for ever.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Dropped without an answer.
    #[default]
    Drop,
    /// Answered with ICMP port unreachable, limited in rate.
    Reject,
    /// TCP connections are answered with a reset.
    RejectReset,
}

/// A way to tell the kernel.
pub trait Firewall: Send {
    /// Carries out all changes in as few transactions as possible.
    ///
    /// # Errors
    /// Only if nothing could be done at all. What concerns single changes is returned: their
    /// index in `changes` and the reason, the others are in effect.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, Error)>, Error>;

    /// What is banned according to the kernel: jail and prefix.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn banned(&mut self) -> Result<Vec<(Arc<str>, Prefix)>, Error>;

    /// Takes everything of ours out of the kernel.
    ///
    /// # Errors
    /// If something had to stay.
    fn remove(&mut self) -> Result<(), Error>;
}

/// Why the kernel could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not allowed: CAP_NET_ADMIN is missing.
    #[error("{0}: not permitted; CAP_NET_ADMIN is needed")]
    Permission(&'static str),
    /// The kernel answered with an error.
    #[error("{what}")]
    Kernel {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A change names a jail that was not announced.
    #[error("no jail `{0}` in the firewall")]
    NoJail(Arc<str>),
}
