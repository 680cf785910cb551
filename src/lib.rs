//! Sekimori: a log ban engine that reads the Fail2Ban configuration people already have.
//!
//! One log line walks through the tree in this order:
//!
//! ```text
//! fail2ban/  reads jail.conf, filter.d, action.d    -> a stream of typed commands, config::Jail
//! source/    reads files                            -> line::Block
//! filter/    matches lines                          -> filter::Failure      (pure)
//! jail/      counts failures, decides               -> jail::Decision       (pure, told the time)
//! firewall/  tells the kernel                          action/  runs other people's commands
//! state/     remembers across a restart
//! lookup/    finds out whose an address is          (never on the way of a ban)
//! report/    tells the owner, in a form that an abuse desk can act on
//! server/    connects all of these;  cli/  is what people type
//! ```
//!
//! Who may use whom is written down, and held, in `tests/architecture.rs`.

pub mod action;
pub mod address;
pub mod cli;
pub mod config;
pub mod control;
pub mod fail2ban;
pub mod filter;
pub mod firewall;
pub mod jail;
pub mod line;
pub mod lookup;
pub mod report;
pub mod server;
pub mod source;
pub mod state;
pub mod time;
