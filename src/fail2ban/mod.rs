//! Everything that exists only because Fail2Ban does it so: its configuration files, its
//! regular expressions, its time expressions, its wire format, its texts.

pub mod database;
pub mod stock;
pub mod tags;
