//! What people type.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program named by the first argument's file name, or by the subcommand.
#[must_use]
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
