//! Lines of a jail that could not be decided: how many there were, and what the log tells of them.
//!
//! Whoever writes such lines must not be able to fill the disk by them: what the log shows is short,
//! harmless to a terminal, and has a limit each minute.

use crate::config::settings;
use crate::filter::scan::Tally;
use crate::line::MAX_LINE;
use crate::time::Time;

use super::logging::shown;

/// Most lines of a jail that are shown in [`WINDOW`].
const MAX_SHOWN: usize = 10;
/// Seconds.
const WINDOW: f64 = 60.0;

/// Counts of one jail.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    total: u64,
    /// When the present window began.
    begin: Option<Time>,
    /// Lines shown in it.
    shown: usize,
    /// Lines that were not shown since the last one that was.
    hidden: u64,
}

impl Undecided {
    /// All since the jail is there.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Counts the lines of a block at `now`; what the log is to tell of them.
    pub(super) fn add(&mut self, tally: &Tally, policy: settings::Undecided, now: Time) -> Vec<String> {
        let mut texts = Vec::new();
        if self.total == 0 {
            let why = if tally.cut > 0 {
                format!("it is longer than {MAX_LINE} bytes and its beginning does not match")
            } else {
                "a pattern with back-references needs too many steps for it".to_owned()
            };
            texts.push(format!(
                "A line could not be decided: {why}. Such lines count as no failure; the status of the jail tells how \
                 many there were, `undecided = \"log\"` in sekimori.toml shows them"
            ));
        }
        let lines = tally.cut + tally.steps;
        self.total += lines;
        if policy == settings::Undecided::Count {
            return texts;
        }
        // a clock that was set back begins anew
        if self.begin.is_none_or(|begin| !(0.0..WINDOW).contains(&(now - begin))) {
            (self.begin, self.shown) = (Some(now), 0);
        }
        let samples = &tally.samples[..tally.samples.len().min(MAX_SHOWN - self.shown)];
        if !samples.is_empty() && self.hidden > 0 {
            texts.push(format!("{} undecided lines were not shown", self.hidden));
            self.hidden = 0;
        }
        self.shown += samples.len();
        self.hidden += lines - samples.len() as u64;
        texts.extend(samples.iter().map(|line| format!("Undecided line, it begins with `{}`", shown(line))));
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_minute_are_shown_and_the_others_are_told_of() {
        let mut undecided = Undecided::default();
        let tally =
            |lines: u64| Tally { cut: lines, samples: vec!["a\n\u{1b}[2J".into(); lines as usize], ..Tally::default() };
        let log = settings::Undecided::Log;
        let first = undecided.add(&tally(7), log, Time::from_seconds(100));
        assert_eq!(first.len(), 8);
        assert!(first[0].starts_with("A line could not be decided: it is longer than 131072 bytes"), "{}", first[0]);
        assert!(!first[7].contains(['\n', '\u{1b}']), "{}", first[7]);
        assert_eq!(undecided.add(&tally(7), log, Time::from_seconds(101)).len(), 3);
        assert_eq!(undecided.add(&tally(7), log, Time::from_seconds(159)).len(), 0);
        let later = undecided.add(&tally(1), log, Time::from_seconds(160));
        assert_eq!((later.len(), later[0].as_str()), (2, "11 undecided lines were not shown"));
        assert_eq!(undecided.add(&tally(1), settings::Undecided::Count, Time::from_seconds(161)), [""; 0]);
        assert_eq!(undecided.total(), 23);
    }
}
