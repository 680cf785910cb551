//! Where lines come from: log files and the journal.
//!
//! A [`Follower`] belongs to one thread and follows any number of logs: it waits for the kernel
//! to say that something changed, reads whole lines in large blocks, fairly among the logs, and
//! hands them to a [`Handler`] together with the position to go on from after a restart.
//!
//! ```text
//! follow     waits, knows which log a change belongs to, takes turns
//! log        one path: which file it means now (rotation, truncation, deletion)
//! file       one open file: blocks of whole lines
//! position   where to go on; encoding   to UTF-8; glob   which files a pattern means
//! ```
//!
//! [`Journals`] does the same for journals.

pub mod encoding;
mod file;
mod follow;
mod glob;
pub mod journal;
mod log;
pub mod position;

pub use encoding::Encoding;
pub use follow::{Follower, Method, Pattern, Spec, Start, Waker};
pub use journal::Journals;
pub use log::{Delivery, Member, Note, Opened, beginning};
pub use position::Position;

/// How far something was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A log, up to this position.
    Log(Position),
    /// A journal, up to and with this entry.
    Journal(journal::Cursor),
}

/// Gets what a [`Follower`] or [`Journals`] finds.
pub trait Handler {
    /// A log was opened for the first time for this tag; [`Opened::search`] may move the place
    /// where reading begins.
    fn opened(&mut self, _tag: u64, _log: &mut Opened<'_>) {}

    /// Some lines. Reading waits until this returns, so it may wait for a slow receiver.
    fn block(&mut self, delivery: &Delivery<'_>);

    /// Something about a log that an administrator may want to know.
    fn note(&mut self, _tags: &[Member], _path: &std::path::Path, _note: Note) {}

    /// Some records of a journal, under the same terms.
    fn records(&mut self, _delivery: &journal::Delivery<'_>) {}

    /// Something about a journal that an administrator may want to know.
    fn journal_note(&mut self, _tags: &[u64], _note: &journal::Note) {}
}
