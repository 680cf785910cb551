//! What the tests stand on: configurations, daemons, namespaces, the real Fail2Ban.

pub mod daemon;
pub mod journal;
pub mod net;
pub mod nsd;
pub mod random;
