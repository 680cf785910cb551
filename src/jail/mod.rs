//! Failures to decisions. Pure: the time is an argument, nothing is carried out.
