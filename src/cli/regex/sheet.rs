//! Where the report goes: stdout, safe for a terminal and unchanged for a pipe.

use std::borrow::Cow;
use std::io::{BufWriter, IsTerminal as _, StdoutLock, Write as _};

/// Lines on their way to stdout.
#[derive(Debug)]
pub struct Sheet {
    out: BufWriter<StdoutLock<'static>>,
    /// Lines come from strangers: a terminal must not obey them.
    terminal: bool,
    /// No head is written, because only results were asked for.
    bare: bool,
    gone: bool,
}

impl Sheet {
    /// Writes to stdout; with `bare` without the lines of the head.
    #[must_use]
    pub fn stdout(bare: bool) -> Sheet {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        Sheet { out: BufWriter::with_capacity(64 * 1024, stdout.lock()), terminal, bare, gone: false }
    }

    /// A line of the head.
    pub fn head(&mut self, text: &str) {
        if !self.bare {
            self.line(text);
        }
    }

    /// A line, or several.
    pub fn line(&mut self, text: &str) {
        let text = if self.terminal { visible(text) } else { Cow::Borrowed(text) };
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        self.gone |= written.is_err();
    }

    /// Whether nobody reads any more, such as `head`.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Sends what was written so far.
    pub fn flush(&mut self) {
        self.gone |= self.out.flush().is_err();
    }
}

/// The text with everything escaped that a terminal would obey.
fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(visible("a\tb\u{1b}[2Jc\u{9b}d\r\u{202e}e\u{fc}\n"), "a\tb\\u{1b}[2Jc\\u{9b}d\\r\\u{202e}e\u{fc}\n");
        assert!(matches!(visible("plain"), Cow::Borrowed(_)));
    }
}
