//! Everything that exists only because Fail2Ban does it so: its configuration files, its
//! regular expressions, its time expressions, its wire format, its texts.

pub mod arithmetic;
pub mod beautifier;
pub mod database;
pub mod pickle;
pub mod protocol;
pub mod stock;
pub mod tags;
pub mod time;
