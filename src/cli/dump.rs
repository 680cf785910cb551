//! `-d` and `--dp`: the resolved command stream on stdout, as Fail2Ban's client prints it.

use std::io::{self, Write as _};

use crate::control::Value;
use crate::fail2ban::{Configuration, repr};

/// Width that `--dp` breaks lines at.
const WIDTH: usize = 1000;

/// Prints the stream, one command a line; `pretty` breaks long ones.
///
/// # Errors
/// If stdout cannot be written.
pub fn print(configuration: &Configuration, pretty: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for command in &configuration.stream {
        let value = Value::List(command.words.clone());
        let line = if pretty { repr::pretty(&value, 2, WIDTH) } else { repr::repr(&value) };
        writeln!(out, "{line}")?;
    }
    out.flush()
}
