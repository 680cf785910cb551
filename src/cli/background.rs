//! A server of its own in the background: this program once more, in a session of its own.
//!
//! No fork: the second process starts afresh. The first one waits until the second answers and
//! then ends, or passes on what the second said before it failed.

use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use super::client::{answers, wait_for_answer};
use super::options::Options;
use crate::control::Value;

/// So much of what a server said at its start is passed on, in bytes.
const MAX_SAID: u64 = 256 * 1024;
/// A server that lives answers within this time.
const PONG: Duration = Duration::from_millis(500);

/// Starts a server and waits until it is ready; prints what it says about that.
///
/// # Errors
/// If one runs already, or the new one ends or is not ready in time; the text says so.
pub fn start(options: &Options, socket: &Path, pidfile: &Path) -> Result<(), String> {
    if answers(socket, PONG) {
        return Err("Server already running".to_owned());
    }
    let system = |error: std::io::Error| format!("cannot start a server: {error}");
    let said = rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC).map_err(|error| system(error.into()))?;
    let mut said = std::fs::File::from(said);
    let mut server = Command::new("/proc/self/exe")
        .arg0("fail2ban-server")
        .args(["--detached", "-f"])
        .args(arguments(options))
        .arg("-s")
        .arg(socket)
        .arg("-p")
        .arg(pidfile)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(system)?)
        .spawn()
        .map_err(system)?;
    // without configuration there is nothing to be ready with
    let question = if options.configured_by_client { "ping" } else { "server-status" };
    let mut ended = None;
    let gone = || {
        ended = server.try_wait().ok().flatten();
        ended.is_some()
    };
    let answer = wait_for_answer(socket, question, Instant::now() + options.timeout, gone);
    let mut text = Vec::new();
    if said.rewind().is_ok() {
        // if nothing can be read, nothing can be passed on
        let _ = said.take(MAX_SAID).read_to_end(&mut text);
        let _ = std::io::stderr().write_all(&text);
    }
    match (answer, ended) {
        (Some(Value::Text(ready)), _) if !options.configured_by_client => {
            let _ = writeln!(std::io::stdout(), "{ready}");
            Ok(())
        }
        (Some(_), _) => Ok(()),
        (None, Some(status)) => Err(format!("Could not start server: it ended with {status}")),
        (None, None) => {
            let seconds = options.timeout.as_secs();
            // it may still become ready; who asked has gone on
            Err(format!(
                "Could not find server, waiting failed: it did not answer within {seconds} s; its log says why"
            ))
        }
    }
}

/// The options that are the server's.
fn arguments(options: &Options) -> Vec<std::ffi::OsString> {
    let mut out: Vec<std::ffi::OsString> = Vec::new();
    let mut pair = |name: &str, value: Option<&std::ffi::OsStr>| {
        if let Some(value) = value {
            out.push(name.into());
            out.push(value.to_owned());
        }
    };
    // the new process changes its directory
    let conf = options.conf.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    pair("-c", conf.as_ref().map(|path| path.as_os_str()));
    pair("--loglevel", options.loglevel.as_ref().map(|text| text.as_ref()));
    pair("--logtarget", options.logtarget.as_ref().map(|text| text.as_ref()));
    pair("--syslogsocket", options.syslogsocket.as_ref().map(|text| text.as_ref()));
    pair("--firewall", options.firewall.as_ref().map(|text| text.as_ref()));
    pair("--compat", options.compat.map(|compat| compat.name().as_ref()));
    for (set, name) in
        [(options.force, "-x"), (options.configured_by_client, "--async"), (options.dry_run, "--dry-run")]
    {
        if set {
            out.push(name.into());
        }
    }
    out
}

/// The process that a pid file names, if it is a server that lives.
#[must_use]
pub fn running(pidfile: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(pidfile).ok()?.trim().parse().ok()?;
    // empty for one that has ended and was not waited for
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words);
    let server = ["fail2ban-server", "sekimori"].iter().any(|name| words.contains(name));
    (server && pid != std::process::id()).then_some(pid)
}
