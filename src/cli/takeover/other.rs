//! The server that is there: which program it is, what it bans, and how it is stopped.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::cli::background;
use crate::cli::client::Connection;
use crate::control::Value;
use crate::fail2ban::banned;
use crate::server::handover::Handed;
use crate::server::takeover::program;

/// So long a server may take for one answer.
const ANSWER: Duration = Duration::from_secs(60);
/// So long one that was sent a signal may take to end.
const LAST: Duration = Duration::from_secs(15);

/// A server that lives.
#[derive(Debug)]
pub struct Other {
    /// Its process; unknown if it lives behind another kernel's or container's wall.
    pub pid: Option<Pid>,
    /// Whether it is Sekimori.
    pub is_ours: bool,
    /// Whether it answers at its socket.
    pub answers: bool,
    /// Notices its end.
    end: Option<OwnedFd>,
    socket: PathBuf,
}

impl Other {
    /// Looks at the socket, then at the pid file.
    #[must_use]
    pub fn find(socket: &Path, pidfile: &Path) -> Option<Other> {
        let connection = Connection::open(socket, Some(ANSWER)).ok();
        let pid = match &connection {
            Some(connection) => connection.peer(),
            None => background::running(pidfile).and_then(|pid| Pid::from_raw(pid.cast_signed())),
        };
        if connection.is_none() && pid.is_none() {
            return None;
        }
        let answers = connection.is_some_and(|mut server| server.ask(&["ping".into()]).is_ok_and(|it| it.is_ok()));
        let end = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let other = Other { is_ours: pid.is_some_and(is_sekimori), pid, answers, end, socket: socket.to_owned() };
        // one that was killed may hold its socket for a moment longer
        let words = pid.map(|pid| std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default());
        let dying = !answers && words.is_some_and(|words| words.is_empty());
        if dying && other.ends_within(LAST) {
            return None;
        }
        Some(other)
    }

    /// `process 123`.
    #[must_use]
    pub fn name(&self) -> String {
        self.pid.map_or_else(|| "a process we cannot see".to_owned(), |pid| format!("process {}", pid.as_raw_nonzero()))
    }

    /// What it bans, by jail; also jails without bans.
    ///
    /// # Errors
    /// If it does not say; the text says why.
    pub fn bans(&self) -> Result<Vec<(String, Vec<Handed>)>, String> {
        bans(&self.socket)
    }

    /// The unit of systemd, if this is the process that it runs.
    #[must_use]
    pub fn unit<'a>(&self, unit: &'a str) -> Option<&'a str> {
        let asked = program("systemctl").args(["show", "--property=MainPID", "--value", "--", unit]).output().ok()?;
        let main: i32 = String::from_utf8_lossy(&asked.stdout).trim().parse().ok()?;
        (asked.status.success() && self.pid.is_some() && Pid::from_raw(main) == self.pid).then_some(unit)
    }

    /// Stops it and waits for its end: by its unit, else by a command, else by a signal:
    /// SIGTERM, for one of ours SIGKILL.
    ///
    /// # Errors
    /// If it does not end; the text says so.
    pub fn stop(&self, command: &[&str], unit: Option<&str>, patience: Duration) -> Result<(), String> {
        if let Some(unit) = unit {
            let done = program("systemctl").args(["stop", "--", unit]).status();
            if !done.is_ok_and(|status| status.success()) {
                return Err(format!("`systemctl stop {unit}` failed"));
            }
        } else if self.answers {
            let words: Vec<Value> = command.iter().map(|word| Value::from(*word)).collect();
            let asked = Connection::open(&self.socket, Some(ANSWER)).and_then(|mut server| server.ask(&words));
            match asked {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => return Err(format!("it does not stop: {failure:?}")),
                // it may have ended before it could answer
                Err(_) => {}
            }
        } else {
            self.signal();
        }
        if self.ends_within(patience) {
            return Ok(());
        }
        self.signal();
        if self.ends_within(LAST) {
            return Ok(());
        }
        Err(format!("{} does not end", self.name()))
    }

    fn signal(&self) {
        if let Some(pid) = self.pid {
            // ours would take its bans out of the kernel in the end; killed, it leaves them, and loses nothing
            let signal = if self.is_ours { Signal::KILL } else { Signal::TERM };
            // one that is gone needs none
            let _ = kill_process(pid, signal);
        }
    }

    fn ends_within(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let gone = match &self.end {
                Some(process) => {
                    let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
                    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&wait)).is_ok_and(|ready| ready > 0)
                }
                None => {
                    std::thread::sleep(Duration::from_millis(20));
                    Connection::open(&self.socket, None).is_err()
                }
            };
            if gone || left.is_zero() {
                return gone;
            }
        }
    }
}

/// What the server at a socket bans, by jail.
///
/// # Errors
/// If it does not say; the text says why.
pub fn bans(socket: &Path) -> Result<Vec<(String, Vec<Handed>)>, String> {
    let mut server = Connection::open(socket, Some(ANSWER)).map_err(|error| error.to_string())?;
    let zone = jiff::tz::TimeZone::system();
    let names = jails(&mut server)?;
    let mut all = Vec::new();
    for jail in names {
        let lines = ask(&mut server, &["get", &jail, "banip", "--with-time"])?;
        let lines = lines.as_list().unwrap_or_default().iter().filter_map(Value::as_text);
        let bans = lines.filter_map(|line| banned::parse(line, &zone)).map(|ban| Handed {
            jail: jail.clone(),
            id: ban.id,
            time: ban.time.seconds(),
            bantime: ban.bantime,
        });
        let bans = bans.collect();
        all.push((jail, bans));
    }
    Ok(all)
}

/// The names of its jails.
fn jails(server: &mut Connection) -> Result<Vec<String>, String> {
    let status = ask(server, &["status"])?;
    let names = status.as_list().and_then(|pairs| pairs.get(1)?.as_list()?.get(1)?.as_text()).unwrap_or_default();
    Ok(names.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// One question.
///
/// # Errors
/// If it is not answered; the text says why.
pub fn ask(server: &mut Connection, words: &[&str]) -> Result<Value, String> {
    let values: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
    match server.ask(&values) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(format!("`{}`: {failure:?}", words.join(" "))),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a process is this program, under whatever name.
fn is_sekimori(pid: Pid) -> bool {
    let exe = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap_or_default();
    let same = std::env::current_exe().is_ok_and(|ours| ours == exe);
    same || exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sekimori"))
}

/// Fail2Ban's servers in our network namespace, those that are just being started included.
#[must_use]
pub fn strangers() -> Vec<u32> {
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let ours = space("self");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let servers = processes.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let is = |name: &[u8]| words.iter().take(2).any(|word| word.ends_with(name));
        let named = is(b"fail2ban-server") || (is(b"fail2ban-client") && words.contains(&&b"start"[..]));
        let other = named && !is_sekimori(Pid::from_raw(pid.cast_signed())?);
        (other && space(&pid.to_string()) == ours).then_some(pid)
    });
    servers.collect()
}
