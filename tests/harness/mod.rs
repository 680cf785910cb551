//! What the tests stand on: configurations, daemons, namespaces, the real Fail2Ban.

pub mod net;
