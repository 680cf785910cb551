//! Actions in Python files: what `addaction` makes of a file, and what clients ask of an action that runs.
//!
//! The stock `smtp.py` is done by ourselves; one changed character in the file, and it runs as the program it is.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::python::{self, Program, Question};
use crate::action::queue::Event;
use crate::action::{Work, mail};
use crate::control::{Failure, FailureKind, Reply, Value};
use crate::fail2ban::stock;

use super::engine::Engine;
use super::logging::Level;
use super::setup::text;

/// Longest file of an action, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The action that a file and a JSON object of options describe.
///
/// # Errors
/// The file cannot be used, or the options are no object; the text says what to do.
pub(super) fn work(path: &str, options: &str) -> Result<Work, Failure> {
    let options = match serde_json::from_str(options) {
        Ok(serde_json::Value::Object(options)) => options,
        Ok(_) => return Err(Failure::new(FailureKind::Type, format!("the options of `{path}` must be a JSON object"))),
        Err(error) => return Err(Failure::new(FailureKind::Value, format!("the options of `{path}`: {error}"))),
    };
    let path = PathBuf::from(path);
    // it need not be there, because it is not looked into
    let is_ours = path.ends_with("action.d/smtp.py");
    if is_ours && !path.exists() {
        return mail::Options::new(&options).map(Work::Mail);
    }
    let contents = read(&path)?;
    if is_ours && stock::is_mail(&contents) {
        return mail::Options::new(&options).map(Work::Mail);
    }
    let Some(python) = python::interpreter() else {
        let text = format!(
            "action `{}` needs python3, and there is none in PATH; install python3, or use an action that consists of commands",
            path.display()
        );
        return Err(Failure::new(FailureKind::Runtime, text));
    };
    Ok(Work::Python(Arc::new(Program { python, path, options, fingerprint: stock::hash(&contents) })))
}

/// The file of an action. It runs with our rights, so nobody else may be able to write it.
fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let runtime = |text: String| Failure::new(FailureKind::Runtime, text);
    let unreadable = |error: std::io::Error| runtime(format!("action `{shown}` cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(runtime(format!("action `{shown}` is no file of at most {MAX_FILE} bytes")));
    }
    let own = rustix::process::geteuid().as_raw();
    if about.mode() & 0o002 != 0 || ![0, own].contains(&about.uid()) {
        let text = format!(
            "action `{shown}` could be written by others and is not used; `chown root '{shown}'; chmod o-w '{shown}'` \
             after a look into it"
        );
        return Err(runtime(text));
    }
    let mut contents = String::new();
    file.take(MAX_FILE).read_to_string(&mut contents).map_err(unreadable)?;
    Ok(contents)
}

impl Engine {
    /// What a client asks that only an action itself can answer: its name and the question.
    pub(super) fn question(&self, words: &[Value]) -> Option<Result<(String, Question), Failure>> {
        let word = |index: usize| words.get(index).map(text);
        let verb = words.first()?.as_text()?;
        let jail = self.jails.get(&*word(1)?)?;
        let name = word(3)?;
        let (_, work) = jail.setup.actions.iter().find(|(known, _)| *known == name)?;
        match work {
            Work::Commands(_) => return None,
            // its properties are settings, and calls of its methods are mails
            Work::Mail(_) if verb != "set" || !mail::METHODS.contains(&word(4)?.as_str()) => return None,
            Work::Mail(_) | Work::Python(_) => {}
        }
        let question = match (verb, word(2)?.as_str()) {
            ("get", "action") => Question::Get(word(4)?),
            ("get", "actionproperties") => Question::Properties,
            ("get", "actionmethods") => Question::Methods,
            ("set", "action") => Question::Set(word(4)?, words.get(5).cloned().unwrap_or(Value::None)),
            _ => return None,
        };
        if jail.queue.is_none() {
            let text = format!("action `{name}` does not run; start the jail first");
            return Some(Err(Failure::new(FailureKind::Runtime, text)));
        }
        Some(Ok((name, question)))
    }

    /// Asks an action, and answers the client when it has answered.
    pub(super) fn ask_action(
        &mut self,
        (name, question): (String, Question),
        command: Vec<Value>,
        reply: tokio::sync::oneshot::Sender<Reply>,
    ) {
        let (tell, told) = tokio::sync::oneshot::channel();
        let jail = command.get(1).map(text).unwrap_or_default();
        self.act(&jail, Event::Ask { name, question, reply: tell });
        let logger = self.logger.clone();
        self.runtime.spawn(async move {
            let ended = || Failure::new(FailureKind::Runtime, "the action has ended");
            let answer = told.await.unwrap_or_else(|_| Err(ended()));
            if let Err(failure) = &answer {
                logger.log(Level::ERROR, "transmitter", &super::commands::of_failure(command, failure));
            }
            // the client may have gone
            let _ = reply.send(answer);
        });
    }
}
