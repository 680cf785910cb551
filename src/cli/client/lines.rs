//! Lines of a conversation: from a terminal with history and completion, else just lines.

use std::borrow::Cow;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::cli::usage::COMMANDS;

const PROMPT: &str = "fail2ban> ";
/// Lines that the history keeps.
const MAX_HISTORY: usize = 1000;

/// Asks for the names of the jails.
pub type Jails<'a> = Box<dyn Fn() -> Vec<String> + 'a>;

/// Where lines come from.
pub enum Lines<'a> {
    /// A person.
    Terminal { editor: Box<Editor<Words<'a>, FileHistory>>, history: Option<PathBuf> },
    /// A file or a pipe.
    Plain,
}

impl<'a> Lines<'a> {
    /// From standard input. A history that cannot be read or written is none.
    pub fn open(jails: Jails<'a>) -> Lines<'a> {
        if !io::stdin().is_terminal() {
            return Lines::Plain;
        }
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .max_history_size(MAX_HISTORY)
            .map(rustyline::config::Builder::build);
        let Ok(mut editor) = config.and_then(Editor::with_config) else { return Lines::Plain };
        editor.set_helper(Some(Words { jails }));
        let history = place();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        Lines::Terminal { editor: Box::new(editor), history }
    }

    /// The next line; none at the end.
    pub fn next(&mut self) -> Option<String> {
        match self {
            Lines::Terminal { editor, .. } => loop {
                match editor.readline(PROMPT) {
                    Ok(line) => return Some(line),
                    // Ctrl-C drops the line
                    Err(ReadlineError::Interrupted) => {}
                    Err(_) => return None,
                }
            },
            Lines::Plain => {
                let mut out = io::stdout().lock();
                let _ = out.write_all(PROMPT.as_bytes()).and_then(|()| out.flush());
                drop(out);
                io::stdin().lock().lines().next()?.ok()
            }
        }
    }

    /// Keeps what was typed for the next time, for the owner's eyes alone.
    pub fn close(self) {
        if let Lines::Terminal { mut editor, history: Some(path) } = self {
            let directory = path.parent().map(std::fs::create_dir_all);
            if matches!(directory, Some(Ok(()))) {
                let _ = editor.save_history(&path);
            }
        }
    }
}

/// The history's file: `$XDG_STATE_HOME/sekimori/history`, else below `~/.local/state`.
fn place() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("sekimori/history"))
}

/// Completes what has begun, as the table of commands says.
pub struct Words<'a> {
    jails: Jails<'a>,
}

impl Words<'_> {
    /// What `line` could go on with: where the last word begins, and the words it may become.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(' ').map_or(0, |at| at + 1);
        let before: Vec<&str> = line[..start].split_whitespace().collect();
        let mut found = Vec::new();
        let mut wants_jail = false;
        let literal = |typed: &str, part: &str| part.split('|').any(|one| one == typed);
        let fits = |typed: &str, part: &str| part.starts_with(['<', '[']) || literal(typed, part);
        let all: Vec<Vec<&str>> =
            COMMANDS.iter().flat_map(|(_, group)| *group).map(|(command, _)| command.split(' ').collect()).collect();
        let matching = |fits: &dyn Fn(&str, &str) -> bool| -> Vec<&Vec<&str>> {
            let goes_on = |parts: &&Vec<&str>| {
                parts.len() > before.len() && before.iter().zip(parts.iter()).all(|(typed, part)| fits(typed, part))
            };
            all.iter().filter(goes_on).collect()
        };
        // `set loglevel` is about no jail of that name
        let mut commands = matching(&literal);
        if commands.is_empty() {
            commands = matching(&fits);
        }
        for parts in commands {
            let next = parts[before.len()];
            wants_jail |= next == "<JAIL>";
            // `[--with-time]` is a word that may be left out, `stat[istic]s` two in one
            let next = if next == "stat[istic]s" { "stats|statistics" } else { next.trim_matches(['[', ']']) };
            found.extend(
                next.split('|')
                    .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'))
                    .map(str::to_owned),
            );
        }
        if wants_jail {
            found.extend((self.jails)());
        }
        found.retain(|word| word.starts_with(&line[start..]));
        found.sort();
        found.dedup();
        (start, found)
    }
}

impl Completer for Words<'_> {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<String>), ReadlineError> {
        let (start, found) = self.candidates(line.get(..at).unwrap_or(line));
        Ok((start, found.into_iter().map(|word| word + " ").collect()))
    }
}

impl Hinter for Words<'_> {
    type Hint = String;
}

impl Highlighter for Words<'_> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        line.into()
    }
}

impl Validator for Words<'_> {}

impl Helper for Words<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_with_the_words_of_the_commands_and_the_names_of_the_jails() {
        let words = Words { jails: Box::new(|| vec!["sshd".to_owned(), "web".to_owned()]) };
        let found = |line: &str| words.candidates(line).1.join(" ");
        assert_eq!(found("fl"), "flushlogs");
        assert_eq!(found("sta"), "start statistics stats status");
        assert_eq!(found("status "), "--all sshd web");
        assert_eq!(found("set sshd idle "), "off on");
        assert_eq!(found("get w"), "web");
        assert_eq!(found("set sshd bani"), "banip");
        assert_eq!(found("set loglevel "), "");
        assert_eq!(words.candidates("get sshd max").0, 9);
        assert_eq!(found("nothing of the kind "), "");
    }
}
