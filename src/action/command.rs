//! One script, run with a deadline, its output drained and bounded.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::template::Script;

/// What is kept of a command's output, in bytes for each stream. The rest is read and thrown away.
const MAX_OUTPUT: usize = 64 * 1024;
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_millis(200);
/// Between two looks whether a process group is gone.
const LOOK: Duration = Duration::from_millis(5);

/// How a script ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; `None` if it could not be waited for.
    pub status: Option<ExitStatus>,
    /// Whether it was ended for taking too long.
    pub timed_out: bool,
    /// The beginning of what it wrote.
    pub stdout: Vec<u8>,
    /// The beginning of what it complained about.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Whether it ended by itself with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        !self.timed_out && self.status.is_some_and(|status| status.success())
    }
}

/// Runs a script with `/bin/sh`, in a process group of its own, without input.
///
/// After `limit` the whole group gets TERM, and KILL a moment later.
///
/// # Errors
/// If `/bin/sh` cannot be started.
pub async fn run(script: &Script, limit: Duration) -> std::io::Result<Outcome> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(&script.text)
        .args(&script.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = group(&child);
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let mut unfinished = Unfinished(group);
    let mut reading = Reading(tokio::spawn({
        let (out, err) = (drain(child.stdout.take(), stdout.clone()), drain(child.stderr.take(), stderr.clone()));
        async move { _ = tokio::join!(out, err) }
    }));
    let mut timed_out = false;
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            timed_out = true;
            put_down(&mut child).await
        }
    };
    unfinished.0 = None;
    // a process left in the background may hold the pipes open: what it writes from now on is not waited for
    let _ = tokio::time::timeout(GRACE, &mut reading.0).await;
    Ok(Outcome { status, timed_out, stdout: taken(&stdout), stderr: taken(&stderr) })
}

/// The process group of a child that was started with one of its own.
pub(super) fn group(child: &Child) -> Option<rustix::process::Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
}

/// Ends a child with its whole group: TERM, and KILL a moment later.
pub(super) async fn put_down(child: &mut Child) -> Option<ExitStatus> {
    let group = group(child);
    signal(group, rustix::process::Signal::TERM);
    let end = Instant::now() + GRACE;
    let ended = tokio::time::timeout_at(end, child.wait()).await;
    // the shell may be gone while others of the group still tidy up
    while Instant::now() < end && exists(group) {
        tokio::time::sleep(LOOK).await;
    }
    signal(group, rustix::process::Signal::KILL);
    match ended {
        Ok(status) => status.ok(),
        Err(_) => child.wait().await.ok(),
    }
}

/// What was kept of a stream so far.
pub(super) type Kept = Arc<Mutex<Vec<u8>>>;

/// Takes what was kept; there is room again.
pub(super) fn taken(kept: &Kept) -> Vec<u8> {
    std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The task that reads what a command writes; ends with this, and closes the pipes.
pub(super) struct Reading(pub(super) tokio::task::JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The process group of a script that nobody waits for any more is killed, not only its shell.
pub(super) struct Unfinished(pub(super) Option<rustix::process::Pid>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        signal(self.0, rustix::process::Signal::KILL);
    }
}

fn signal(group: Option<rustix::process::Pid>, signal: rustix::process::Signal) {
    if let Some(group) = group {
        // the group may be gone already, which is what was wanted
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Whether somebody of the group is still there.
fn exists(group: Option<rustix::process::Pid>) -> bool {
    group.is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok())
}

/// Reads to the end, keeping the beginning.
pub(super) async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: Kept) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script { text: text.to_owned(), arguments: vec!["zero".to_owned(), "one".to_owned()] }
    }

    #[tokio::test]
    async fn arguments_are_positional_and_output_is_kept() {
        let outcome = run(&script("echo $0 ${1}; echo bad >&2"), Duration::from_secs(5)).await.unwrap();
        assert!(outcome.success());
        assert_eq!(outcome.stdout, b"zero one\n");
        assert_eq!(outcome.stderr, b"bad\n");
    }

    #[tokio::test]
    async fn a_flood_of_output_neither_hangs_nor_fills_memory() {
        let outcome = run(&script("head -c 3000000 /dev/zero"), Duration::from_secs(10)).await.unwrap();
        assert!(outcome.success());
        assert_eq!(outcome.stdout.len(), MAX_OUTPUT);
    }

    #[tokio::test]
    async fn a_command_that_nobody_waits_for_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let held = folder.path().join("held");
        // the writing end of a pipe, held open by a child for as long as it lives
        let text = format!("mkfifo {0}; sleep 60 > {0} & wait", held.display());
        let task = tokio::spawn(async move { run(&script(&text), Duration::from_secs(60)).await });
        while !held.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let opened = tokio::task::spawn_blocking(move || std::fs::File::open(held)).await;
        let mut pipe = opened.unwrap().unwrap();
        task.abort();
        let ended = tokio::task::spawn_blocking(move || std::io::Read::read(&mut pipe, &mut [0; 1])).await;
        assert_eq!(ended.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_its_children() {
        let outcome = run(&script("trap '' TERM; sleep 60 & sleep 60"), Duration::from_millis(100)).await.unwrap();
        assert!(outcome.timed_out && !outcome.success());
        let text = "sh -c 'trap \"\" TERM; while :; do sleep 0.01; done' & echo $! $$; wait";
        let outcome = run(&script(text), Duration::from_millis(100)).await.unwrap();
        assert!(outcome.timed_out);
        for id in String::from_utf8_lossy(&outcome.stdout).split_whitespace() {
            // whoever adopts it may not have buried it yet
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_else(|_| "x) Z".to_owned());
            assert!(state.contains(") Z"), "{state}");
        }
    }

    #[tokio::test]
    async fn children_have_time_to_tidy_up_even_if_the_shell_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let tidy = folder.path().join("tidy");
        let (ready, tidy) = (folder.path().join("ready"), tidy.display());
        let child = format!(
            "trap \"sleep 0.05; echo done > {tidy}; exit\" TERM; > {}; while :; do sleep 0.01; done",
            ready.display()
        );
        let text = format!("sh -c '{child}' & while ! test -e {}; do sleep 0.01; done; wait", ready.display());
        // the limit is long enough for the child to be ready, whatever else runs
        let outcome = run(&script(&text), Duration::from_secs(2)).await.unwrap();
        assert!(outcome.timed_out && ready.exists());
        assert_eq!(std::fs::read_to_string(folder.path().join("tidy")).unwrap(), "done\n");
    }

    #[tokio::test]
    async fn what_was_written_before_a_daemon_was_left_behind_is_kept() {
        let outcome = run(&script("echo before; sleep 60 & echo $!"), Duration::from_secs(10)).await.unwrap();
        assert!(outcome.success());
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let id = text.strip_prefix("before\n").unwrap().trim().parse().unwrap();
        // it lives on, which is what a daemon is for
        let daemon = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
    }
}
