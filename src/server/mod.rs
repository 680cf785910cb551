//! The daemon: connects all the parts.
//!
//! ```text
//! run        starts and ends everything
//! logs       threads that read and match          -> failures
//! engine     one thread that counts and decides   -> effects: kernel, database, log, actions
//! commands   what clients ask for                 setup, jail   what a jail was told, what runs
//! socket     the clients                          database   the file, or what stands in for it
//! actions, native, own, guard   small questions    handover, takeover   changes between us and Fail2Ban
//! ```

mod actions;
mod clock;
pub mod commands;
pub mod database;
pub mod effects;
pub mod engine;
pub mod guard;
pub mod handover;
pub mod jail;
pub mod logging;
pub mod logs;
pub mod native;
pub mod notify;
pub mod own;
pub mod questions;
pub mod random;
pub mod run;
pub mod settings;
pub mod setup;
pub mod socket;
pub mod takeover;
pub mod told;
mod undecided;

use crate::filter::Clock;
use crate::time::Time;

/// The name in those messages that other programs look for.
const NAME: &str = "Fail2ban";

/// What time it is.
fn clock() -> Clock {
    let now = Time::from_micros(jiff::Timestamp::now().as_microsecond());
    Clock { now, zone: jiff::tz::TimeZone::system() }
}

/// An error and its causes in one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
