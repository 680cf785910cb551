//! What users can see, in one test binary.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod actions;
mod architecture;
mod client;
mod compat;
mod consumers;
mod control;
mod daemon;
mod demo;
mod firewall;
mod harness;
mod lookup;
mod questions;
mod regex;
mod report;
mod shadow;
mod shell;
mod source;
mod state;
mod takeover;
