//! The report: how often each expression matched, which dates were found, which lines were left over.
//!
//! Its layout is that of `fail2ban-regex`, because scripts read it.

use std::time::Duration;

use super::result::value;
use super::sheet::Sheet;
use crate::control::Value;
use crate::fail2ban::repr::repr;
use crate::filter::record::session::Groups;
use crate::filter::record::{Filter, State, Trace};
use crate::filter::{Clock, Datum, Match};
use crate::time::Time;

/// So many lines are shown of those that are left over.
const SHOWN: usize = 20;

/// So many bytes of lines and failures are kept for the end of a report, at most.
const MAX_KEPT: usize = 512 << 20;

/// What is to be shown.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of a command line")]
pub struct Show {
    /// 0: what matched; from 1 on: everything, with failures.
    pub level: u8,
    /// Weight, pattern and expression of the dates.
    pub dates: bool,
    /// Matching lines.
    pub matched: bool,
    /// No lines that did not match; all of them.
    pub no_missed: bool,
    /// All of them, however many.
    pub all_missed: bool,
    /// No lines that were ignored; all of them.
    pub no_ignored: bool,
    /// All of them, however many.
    pub all_ignored: bool,
    /// No dates: every record has its time.
    pub no_dates: bool,
    /// `maxlines`, if it was given: that many lines are shown then.
    pub lines: Option<u32>,
}

/// Lines for the end of the report.
#[derive(Debug, Default)]
struct Kept {
    text: Vec<String>,
    bytes: usize,
    /// Some did not fit.
    dropped: u64,
}

impl Kept {
    fn add(&mut self, line: &str) {
        if self.bytes + line.len() > MAX_KEPT {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len() + size_of::<String>();
        self.text.push(line.to_owned());
    }
}

/// Counts, and what is kept of lines.
#[derive(Debug)]
pub struct Report {
    show: Show,
    limit: usize,
    failregex: Vec<u64>,
    ignoreregex: Vec<u64>,
    /// With `level`: the failures of each failregex, ready to be printed.
    failures: Vec<Kept>,
    prefix: u64,
    prefix_groups: Vec<String>,
    /// What the prefregex said last.
    last_prefix: Option<Groups>,
    lines: u64,
    ignored: u64,
    matched: u64,
    missed: u64,
    matched_lines: Kept,
    ignored_lines: Kept,
    missed_lines: Kept,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A failure.
    Matched,
    /// Excused, or no failure by itself.
    Ignored,
    /// Nothing.
    Missed,
}

impl Report {
    /// An empty report for a filter.
    #[must_use]
    pub fn new(filter: &Filter, show: Show) -> Report {
        Report {
            show,
            limit: show.lines.map_or(SHOWN, |lines| lines as usize),
            failregex: vec![0; filter.failregex.len()],
            ignoreregex: vec![0; filter.ignoreregex.len()],
            failures: filter.failregex.iter().map(|_| Kept::default()).collect(),
            prefix: 0,
            prefix_groups: Vec::new(),
            last_prefix: None,
            lines: 0,
            ignored: 0,
            matched: 0,
            missed: 0,
            matched_lines: Kept::default(),
            ignored_lines: Kept::default(),
            missed_lines: Kept::default(),
        }
    }

    /// A failregex matched; `who` is the identifier, if there is one, and `several` says that
    /// two others had matched the line before.
    pub fn hit(&mut self, regex: usize, who: Option<&str>, time: Option<Time>, several: bool, clock: &Clock) {
        if let Some(count) = self.failregex.get_mut(regex) {
            *count += 1;
        }
        if self.show.level > 0
            && let Some(kept) = self.failures.get_mut(regex)
        {
            let time = time.unwrap_or(clock.now);
            let written = jiff::Timestamp::from_second(time.seconds())
                .map(|at| clock.zone.to_datetime(at).strftime("%a %b %d %H:%M:%S %Y").to_string());
            let several = if several { " (multiple regex matched)" } else { "" };
            kept.add(&format!("|      {}  {}{several}", who.unwrap_or("None"), written.unwrap_or_default()));
        }
    }

    /// So many more lines, of which `matched` have a failure, were looked at without the texts of
    /// those that nothing matched; the prefregex matched `prefix` of them.
    pub fn many(&mut self, lines: u64, matched: u64, prefix: u64) {
        self.lines += lines;
        self.matched += matched;
        self.missed += lines.saturating_sub(matched);
        self.prefix += prefix;
    }

    /// A line was excused.
    pub fn excused(&mut self, index: usize, line: &str) {
        if let Some(count) = self.ignoreregex.get_mut(index) {
            *count += 1;
        }
        self.line(line, End::Ignored);
    }

    /// Lines that were left over at first belong to a match over several lines.
    pub fn earlier(&mut self, lines: &[Match]) {
        for one in lines {
            self.missed -= 1;
            self.matched += 1;
            if let Some(at) = self.missed_lines.text.iter().position(|line| **line == *one.line) {
                self.missed_lines.text.remove(at);
            }
            if self.show.matched {
                self.matched_lines.add(&one.line);
            }
        }
    }

    /// Whether the text of the next line that nothing matches would be kept.
    #[must_use]
    pub fn wants_missed(&self) -> bool {
        !self.show.no_missed && (self.show.all_missed || self.missed <= self.limit as u64)
    }

    /// The other expressions that matched.
    pub fn others(&mut self, trace: &mut Trace) {
        for index in &trace.ignored {
            if let Some(count) = self.ignoreregex.get_mut(*index) {
                *count += 1;
            }
        }
        // Where an exception came before the prefix, the original counts the line before once more.
        if trace.prefix.is_some() || trace.ignored.is_empty() {
            self.last_prefix = trace.prefix.take();
        }
        if let Some(groups) = &self.last_prefix {
            self.prefix += 1;
            if self.show.level > 0 && self.prefix_groups.len() < self.limit {
                self.prefix_groups.push(shown(groups));
            }
        }
    }

    /// A line is done.
    pub fn line(&mut self, line: &str, end: End) {
        self.lines += 1;
        match end {
            End::Matched => {
                self.matched += 1;
                if self.show.matched {
                    self.matched_lines.add(line);
                }
            }
            End::Ignored => {
                self.ignored += 1;
                if !self.show.no_ignored && (self.show.all_ignored || self.ignored <= self.limit as u64 + 1) {
                    self.ignored_lines.add(line);
                }
            }
            End::Missed => {
                self.missed += 1;
                if !self.show.no_missed && (self.show.all_missed || self.missed <= self.limit as u64 + 1) {
                    self.missed_lines.add(line);
                }
            }
        }
    }

    /// Writes it.
    pub fn write(&self, sheet: &mut Sheet, filter: &Filter, state: &State, took: Duration) {
        for line in ["", "Results", "=======", ""] {
            sheet.line(line);
        }
        if let Some(prefix) = &filter.prefregex {
            sheet.line(&format!("Prefregex: {} total\n|  {}", self.prefix, prefix.text));
            for groups in &self.prefix_groups {
                sheet.line(&format!("|      {groups}"));
            }
            if self.prefix > self.limit as u64 && self.show.level > 0 {
                sheet.line("|      ...");
            }
            sheet.line("`-\n");
        }
        self.expressions(sheet, "Failregex", filter.failregex.iter().map(|regex| &*regex.source), &self.failregex);
        self.expressions(
            sheet,
            "Ignoreregex",
            filter.ignoreregex.iter().map(|regex| &*regex.source),
            &self.ignoreregex,
        );
        if !self.show.no_dates {
            self.dates(sheet, filter, state);
        }
        let (lines, ignored, matched, missed) = (self.lines, self.ignored, self.matched, self.missed);
        sheet.line(&format!("Lines: {lines} lines, {ignored} ignored, {matched} matched, {missed} missed"));
        sheet.line(&format!("[processed in {:.2} sec]\n", took.as_secs_f64()));
        if self.show.matched {
            self.kept(sheet, "Matched", matched, true, &self.matched_lines);
        }
        if !self.show.no_ignored {
            self.kept(sheet, "Ignored", ignored, self.show.all_ignored, &self.ignored_lines);
        }
        if !self.show.no_missed {
            self.kept(sheet, "Missed", missed, self.show.all_missed, &self.missed_lines);
        }
    }

    fn expressions<'a>(&self, sheet: &mut Sheet, title: &str, texts: impl Iterator<Item = &'a str>, counts: &[u64]) {
        sheet.line(&format!("{title}: {} total", counts.iter().sum::<u64>()));
        let mut any = false;
        for (index, (text, count)) in texts.zip(counts).enumerate() {
            if *count == 0 && self.show.level == 0 {
                continue;
            }
            if !std::mem::replace(&mut any, true) {
                sheet.line("|-  #) [# of hits] regular expression");
            }
            sheet.line(&format!("|  {:>2}) [{count}] {text}", index + 1));
            if title == "Failregex" {
                self.failures[index].text.iter().for_each(|failure| sheet.line(failure));
                self.failures[index].warn(sheet);
            }
        }
        sheet.line(if any { "`-\n" } else { "" });
    }

    fn dates(&self, sheet: &mut Sheet, filter: &Filter, state: &State) {
        sheet.line("Date template hits:");
        let mut any = false;
        // The templates are unknown as long as no line was looked at.
        for used in filter.dates.uses(state.dates()).filter(|_| self.lines > 0) {
            if used.hits == 0 && self.show.level == 0 {
                continue;
            }
            if !std::mem::replace(&mut any, true) {
                sheet.line("|- [# of hits] date format");
            }
            sheet.line(&format!("|  [{}] {}", used.hits, used.name));
            if self.show.dates {
                let weight = used.hits as f64 * used.weight / used.distance.unwrap_or(1).max(1) as f64;
                sheet.line(&format!("|      # weight: {weight:.3} ({:.3})", used.weight));
            }
        }
        sheet.line(if any { "`-\n" } else { "" });
    }

    fn kept(&self, sheet: &mut Sheet, title: &str, count: u64, all: bool, kept: &Kept) {
        if count == 0 {
            return;
        }
        if !all && count >= self.limit as u64 {
            let option = title.to_lowercase();
            sheet.line(&format!(
                "{title} line(s): too many to print.  Use --print-all-{option} to print all {count} lines"
            ));
            return;
        }
        sheet.line(&format!("|- {title} line(s):"));
        for line in &kept.text {
            sheet.line(&format!("|  {}", line.trim_end()));
        }
        kept.warn(sheet);
        sheet.line("`-");
    }
}

impl Kept {
    fn warn(&self, sheet: &mut Sheet) {
        if self.dropped > 0 {
            sheet.flush();
            eprintln!("warning: {} more are not shown, they do not fit into {} MiB", self.dropped, MAX_KEPT >> 20);
        }
    }
}

/// Groups as Python prints a dictionary.
fn shown(groups: &Groups) -> String {
    let pair = |(name, datum): &(std::sync::Arc<str>, Option<Datum>)| (Value::from(&**name), value(datum.as_ref()));
    repr(&Value::Map(groups.iter().map(pair).collect()))
}
