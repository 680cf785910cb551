//! Everything that exists only because Fail2Ban does it so: its configuration files, its
//! regular expressions, its time expressions, its wire format, its texts.

pub mod action;
pub mod arithmetic;
pub mod banned;
pub mod beautifier;
pub mod compile;
pub mod database;
pub mod date;
pub mod definition;
pub mod diagnostic;
pub mod filter;
pub mod increment;
pub mod ini;
pub mod interpolate;
pub mod jail;
pub mod journal;
pub mod layer;
pub mod logpath;
pub mod options;
pub mod pickle;
pub mod protocol;
pub mod regex;
pub mod repr;
pub mod stock;
pub mod stream;
pub mod tags;
pub mod text;
pub mod time;
pub mod values;
pub mod vendor;

use stream::references;
pub use stream::{Configuration, Options, jail_names, read, read_general};
