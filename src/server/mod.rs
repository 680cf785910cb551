//! The daemon: connects all the parts.

pub mod logging;
pub mod notify;
pub mod own;
pub mod run;
pub mod setup;
pub mod socket;
