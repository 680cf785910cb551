//! The attacker: a process at the other end of the cable.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{ATTACKER, PORT, SERVER, ip};

/// A packet that is dropped is not answered; so long an answer is waited for.
const WAIT: Duration = Duration::from_millis(500);

/// Does what it is told on its standard input, until that ends.
pub fn serve() -> Result<(), String> {
    let mut stdout = std::io::stdout();
    let gone = |error: std::io::Error| error.to_string();
    writeln!(stdout, "here").map_err(gone)?;
    for line in std::io::stdin().lock().lines() {
        match line.map_err(gone)?.as_str() {
            "plug" => ip(&format!("link set lo up\naddr add {ATTACKER}/24 dev cable\nlink set cable up\n"))?,
            "try" => {
                let answer = if log_in().is_ok() { "answered" } else { "silence" };
                writeln!(stdout, "{answer}").map_err(gone)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Connects and offers a password that is wrong.
fn log_in() -> std::io::Result<()> {
    let address = SocketAddr::new(SERVER.parse().map_err(std::io::Error::other)?, PORT);
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut greeting = String::new();
    BufReader::new((&stream).take(256)).read_line(&mut greeting)?;
    stream.write_all(b"root letmein\n")?;
    let mut reply = String::new();
    (&stream).take(256).read_to_string(&mut reply)?;
    Ok(())
}
