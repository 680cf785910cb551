//! Where lines come from: log files, and later the journal.
