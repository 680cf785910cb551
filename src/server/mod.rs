//! The daemon: connects all the parts.
