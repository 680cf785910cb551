//! One program under several names: `sekimori`, `fail2ban-client`, `fail2ban-server`, `fail2ban-regex`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sekimori::cli::main(std::env::args_os().collect())
}
