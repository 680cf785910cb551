//! A stand-in for sshd: refuses everybody, and writes the line that OpenSSH writes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{PORT, SERVER};

/// Listens in a thread of its own; each failed login is reported as soon as its line is written.
pub fn serve(log: &Path) -> Result<Receiver<Instant>, String> {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|error| format!("cannot write `{}`: {error}", log.display()))?;
    let listener =
        TcpListener::bind((SERVER, PORT)).map_err(|error| format!("cannot listen at {SERVER}:{PORT}: {error}"))?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // the attacker may hang up at any time
            if refuse(&stream, &mut log).is_ok() {
                let _ = tell.send(Instant::now());
                let _ = (&stream).write_all(b"Permission denied\n");
            }
        }
    });
    Ok(told)
}

fn refuse(mut stream: &TcpStream, log: &mut File) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"SSH-2.0-demo\n")?;
    BufReader::new(stream.take(256)).read_line(&mut String::new())?;
    let peer = stream.peer_addr()?;
    let now = jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now()).strftime("%b %e %H:%M:%S").to_string();
    let (pid, address, port) = (std::process::id(), peer.ip(), peer.port());
    writeln!(log, "{now} demo sshd[{pid}]: Failed password for root from {address} port {port} ssh2")
}
