//! The helper process of one action in Python: started, asked, ended.
//!
//! Requests and replies are lines of JSON. A reply may take as long as the action's limit; after
//! that, or when what comes back makes no sense, the whole process group is killed and the caller
//! starts another helper when there is something to do again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::action::command::{self, Kept, Reading, Unfinished};

/// The program that a helper runs.
const PROGRAM: &str = include_str!("helper.py");
/// Reads that program from the standard input, so that it is no argument that everybody sees.
const LOADER: &str = "import os, sys\nsize, text = int(sys.argv[1]), b''\nwhile len(text) < size:\n    \
                      text += os.read(0, size - len(text)) or sys.exit(0)\nexec(compile(text, '<sekimori>', 'exec'))\n";
/// Longest line from a helper, in bytes.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// Messages of an action that are logged for one event.
const MAX_MESSAGES: usize = 100;
/// How long a helper that is not needed any more may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// What came of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A value, and what is to be known about the action.
    Done { value: Json, traits: Traits },
    /// The action raised an exception.
    Raised(Raised),
}

/// An exception.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(super) struct Raised {
    /// Its class, and those it inherits from.
    pub kinds: Vec<String>,
    /// What it says.
    pub text: String,
    /// Where in the action's file; empty if elsewhere.
    pub place: String,
    /// The way there.
    pub trace: String,
}

/// What is to be known about an action to call it rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
pub(super) struct Traits {
    /// Whether it is not told of bans from before a restart.
    pub norestored: bool,
    /// Whether it can lift all bans at once.
    pub flush: bool,
    /// Whether it can look at its environment.
    pub check: bool,
    /// Whether it wants to know of reloads.
    pub reload: bool,
    /// Whether it wants to know of bans that get longer.
    pub prolong: bool,
    /// Seconds that a call may take, where it says so.
    pub timeout: Option<f64>,
}

/// A message on the way to the outcome.
pub(super) enum Message {
    /// For the log: its level as Python counts, the part that says it, the text.
    Log(i64, String, String),
    /// More messages than are logged.
    Cut,
}

/// Why a helper is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Python cannot be started.
    #[error("python3 cannot be started: {0}")]
    Start(std::io::Error),
    /// It ended, or closed its output.
    #[error("its process ended in the middle of it")]
    Ended,
    /// It took too long.
    #[error("timed out after {} seconds", .0.as_secs_f64())]
    Late(Duration),
    /// It wrote what is no reply.
    #[error("its process wrote what is no reply")]
    Strange,
}

/// A running helper.
pub(super) struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// A line from it that is not complete.
    line: Vec<u8>,
    printed: Kept,
    _reading: Reading,
    /// Kills the whole group when the helper is dropped.
    group: Unfinished,
}

impl Helper {
    /// Starts a helper; `label` says in the list of processes whose it is.
    pub async fn start(python: &Path, label: &str) -> Result<Helper, Error> {
        let child = Command::new(python)
            .args(["-s", "-c", LOADER])
            .arg(PROGRAM.len().to_string())
            .arg(label)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.map_err(Error::Start)?;
        let group = Unfinished(command::group(&child));
        let printed = Kept::default();
        let reading = Reading(tokio::spawn(command::drain(child.stderr.take(), printed.clone())));
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Ended);
        };
        input.write_all(PROGRAM.as_bytes()).await.map_err(|_| Error::Ended)?;
        let output = BufReader::new(output);
        Ok(Helper { child, input, output, line: Vec::new(), printed, _reading: reading, group })
    }

    /// Has something done. What the action logs goes to `log`, and `host` finds the name of the
    /// address when it asks for that.
    ///
    /// After an error the helper is of no use any more.
    pub async fn ask<F: Future<Output = Option<String>>>(
        &mut self,
        request: &Json,
        limit: Duration,
        mut log: impl FnMut(Message),
        host: impl Fn() -> F,
    ) -> Result<Outcome, Error> {
        let exchange = async {
            self.write(request).await?;
            let mut messages = 0;
            loop {
                let line: Line = serde_json::from_slice(&self.read().await?).map_err(|_| Error::Strange)?;
                if let Some((level, part, text)) = line.log {
                    messages += 1;
                    match messages {
                        ..=MAX_MESSAGES => log(Message::Log(level, part, text)),
                        _ if messages == MAX_MESSAGES + 1 => log(Message::Cut),
                        _ => {}
                    }
                } else if line.ask.is_some() {
                    let name = host().await;
                    self.write(&json!({ "host": name })).await?;
                } else if let Some(raised) = line.failed {
                    return Ok(Outcome::Raised(raised));
                } else {
                    let traits = line.traits.ok_or(Error::Strange)?;
                    return Ok(Outcome::Done { value: line.done.unwrap_or(Json::Null), traits });
                }
            }
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(Error::Late(limit)))
    }

    async fn write(&mut self, message: &Json) -> Result<(), Error> {
        self.input.write_all(format!("{message}\n").as_bytes()).await.map_err(|_| Error::Ended)
    }

    /// A line.
    async fn read(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            let part = self.output.fill_buf().await.map_err(|_| Error::Ended)?;
            if part.is_empty() {
                return Err(Error::Ended);
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            self.line.extend_from_slice(&part[..end.unwrap_or(part.len())]);
            let used = end.map_or(part.len(), |end| end + 1);
            self.output.consume(used);
            if self.line.len() > MAX_LINE {
                return Err(Error::Strange);
            }
            if end.is_some() {
                return Ok(std::mem::take(&mut self.line));
            }
        }
    }

    /// What was printed since the last call.
    pub fn printed(&self) -> Vec<u8> {
        command::taken(&self.printed)
    }

    /// Ends a helper that has nothing more to do; killed with its children if it does not go.
    pub async fn end(self) {
        let Helper { mut child, input, output, mut group, .. } = self;
        drop((input, output));
        match tokio::time::timeout(FAREWELL, child.wait()).await {
            // what it left behind on purpose lives on
            Ok(_) => group.0 = None,
            Err(_) => _ = command::put_down(&mut child).await,
        }
    }

    /// Ends a helper that hangs: it has a moment to tidy up, with all its children.
    pub async fn put_down(mut self) {
        command::put_down(&mut self.child).await;
    }
}

/// A line from a helper: one of these.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    log: Option<(i64, String, String)>,
    ask: Option<String>,
    failed: Option<Raised>,
    /// These two together.
    traits: Option<Traits>,
    done: Option<Json>,
}
