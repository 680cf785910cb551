//! What survives a restart: bans, log positions, failure counters.
