//! Strings of which every match contains at least one.
//!
//! They are searched for in whole blocks, before lines and dates are looked at. So a string
//! must be in the *raw* line whenever the pattern matches the line without its date: cutting
//! the date out must not bring two halves together. Most dates stand between non-word
//! characters (their templates see to that), hence no string has two such neighbours; where
//! only the character after the date is known, none has one after its first character.
//!
//! A pattern usually has several sets to choose from ("Failed" and "Accepted" here, a port
//! number's ` port ` there). Which is the rarest depends on the log, so all of them are kept
//! and the scanner decides with a sample of it.

use super::approximate::Patterns;
use super::syntax::{Class, Node, Side};

/// The most strings that stand for one place in a pattern; `(?i)` makes many.
const MOST_VARIANTS: usize = 16;

/// The most characters of a class that are spelt out.
const MOST_OF_A_CLASS: u32 = 4;

/// Longer strings are not rarer.
const LONGEST: usize = 24;

/// Shorter strings are everywhere.
const SHORTEST: usize = 2;

/// Sets that are kept for one pattern.
const MOST_SETS: usize = 6;

/// Strings that one filter may have in the end; the search for them must stay fast.
const MOST_STRINGS: usize = 96;

/// What is known of the characters around a date that is cut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// Both are non-word characters, or do not exist.
    NonWord,
    /// The one after it is.
    NonWordAfter,
    /// Nothing: only single characters are safe, so there are no strings.
    Unknown,
}

impl Around {
    /// Whether these two can only be neighbours because a date was cut out between them.
    fn may_tear(self, left: u8, right: u8) -> bool {
        match self {
            Around::NonWord => !word(left) && !word(right),
            Around::NonWordAfter => !word(right),
            Around::Unknown => true,
        }
    }
}

/// Strings, sorted, without repetition. One of them is in every match.
pub type Strings = Vec<Vec<u8>>;

/// What a filter could be searched by.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Sets of the prefix pattern: each alone is enough for the whole filter.
    prefix: Vec<Strings>,
    /// Sets of each failregex; one of each together are enough. `None` if some failregex has none.
    failures: Option<Vec<Vec<Strings>>>,
}

impl Choices {
    /// Collects what can be chosen from.
    #[must_use]
    pub fn new(patterns: Patterns<'_>, around: Around) -> Choices {
        let of = Extraction { around };
        let prefix = patterns.prefix.map(|prefix| of.required(&prefix.root)).unwrap_or_default();
        let failures = patterns.failures.iter().map(|pattern| {
            let sets = of.required(&pattern.root);
            (!sets.is_empty()).then_some(sets)
        });
        Choices { prefix, failures: failures.collect() }
    }

    /// All strings that may be chosen, for counting them in a sample.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        let failures = self.failures.iter().flatten().flatten();
        self.prefix.iter().chain(failures).flatten().map(Vec::as_slice)
    }

    /// The cheapest set; `cost` says how often a string is expected (in any unit). `None` if
    /// the filter has no set of strings.
    #[must_use]
    pub fn choose(&self, cost: &dyn Fn(&[u8]) -> f64) -> Option<Strings> {
        let total = |strings: &Strings| strings.iter().map(|s| cost(s)).sum::<f64>();
        let cheapest = |sets: &[Strings]| {
            let mut best: Option<(f64, &Strings)> = None;
            for set in sets {
                let cost = total(set);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, set));
                }
            }
            best.map(|(_, set)| set.clone())
        };
        let failures = self.failures.as_ref().filter(|failures| !failures.is_empty()).and_then(|failures| {
            let mut union: Strings = failures.iter().filter_map(|sets| cheapest(sets)).flatten().collect();
            minimize(&mut union);
            (union.len() <= MOST_STRINGS).then_some(union)
        });
        match (cheapest(&self.prefix), failures) {
            (Some(prefix), Some(failures)) => Some(if total(&prefix) <= total(&failures) { prefix } else { failures }),
            (prefix, failures) => prefix.or(failures),
        }
    }

    /// The set that looks best without having seen the log.
    #[must_use]
    pub fn guess(&self) -> Option<Strings> {
        self.choose(&expected)
    }
}

/// How often a string is to be expected in a log, by its length and its characters.
#[must_use]
pub fn expected(string: &[u8]) -> f64 {
    let weight = |byte: u8| match byte {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b' ' | b'.' | b':' | b'=' => 0.8,
        b'a'..=b'z' | b'0'..=b'9' => 1.0,
        _ => 1.4,
    };
    let bits: f64 = string.iter().take(12).map(|&byte| weight(byte)).sum();
    // A word that is used in every other message is long enough to look rare.
    const COMMON: [&[u8]; 6] = [b"from", b"user", b"error", b"client", b"host", b"GET"];
    let common =
        if COMMON.iter().any(|word| memchr::memmem::find(word, string.trim_ascii()).is_some()) { 8.0 } else { 1.0 };
    common * (-bits).exp2()
}

/// Sorted, without repetition, without strings that contain another one.
pub(super) fn minimize(strings: &mut Strings) {
    strings.sort();
    strings.dedup();
    let all = strings.clone();
    strings.retain(|s| !all.iter().any(|other| other != s && memchr::memmem::find(s, other).is_some()));
}

/// Takes the strings out of a pattern.
#[derive(Clone, Copy)]
struct Extraction {
    around: Around,
}

impl Extraction {
    /// The sets of a node, each of which every match contains one string of.
    fn required(self, node: &Node) -> Vec<Strings> {
        let mut sets = Vec::new();
        self.collect(node, &mut sets);
        for set in &mut sets {
            minimize(set);
        }
        sets.retain(|set: &Strings| !set.is_empty() && set.iter().all(|s| s.len() >= SHORTEST));
        let cost = |set: &Strings| set.iter().map(|s| expected(s)).sum::<f64>();
        sets.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
        sets.dedup();
        sets.truncate(MOST_SETS);
        sets
    }

    fn collect(self, node: &Node, sets: &mut Vec<Strings>) {
        match node {
            Node::Concat(_) | Node::Capture { .. } | Node::Atomic(_) | Node::Char(_) | Node::Class(_) => {
                let mut parts = Vec::new();
                flatten(node, &mut parts);
                let mut run = Run::default();
                for part in parts {
                    match self.exact(part) {
                        Some(strings) if run.append(self.around, &strings) => {}
                        Some(strings) => {
                            run.finish(sets);
                            run.append(self.around, &strings);
                        }
                        None => {
                            run.finish(sets);
                            // Nothing more is known of a single character.
                            if !matches!(part, Node::Char(_) | Node::Class(_)) {
                                self.collect(part, sets);
                            }
                        }
                    }
                    if let Node::Look { .. } = part {
                        self.collect(part, sets);
                    }
                }
                run.finish(sets);
            }
            Node::Alternate(parts) => {
                // One set out of each branch; of several sets the one that looks best.
                let mut union = Vec::new();
                for part in parts {
                    let Some(best) = self.required(part).into_iter().next() else { return };
                    union.extend(best);
                }
                minimize(&mut union);
                if union.len() <= MOST_STRINGS {
                    sets.push(union);
                }
            }
            Node::Conditional { yes, no, .. } => {
                let mut union = Vec::new();
                for part in [yes, no] {
                    let Some(best) = self.required(part).into_iter().next() else { return };
                    union.extend(best);
                }
                sets.push(union);
            }
            Node::Repeat { node, min: 1.., .. } => self.collect(node, sets),
            // What a positive look-around sees is in the text as well.
            Node::Look { node, negative: false, side: Side::Ahead | Side::Behind(_) } => self.collect(node, sets),
            Node::Empty | Node::Assert(_) | Node::Look { .. } | Node::Backref { .. } | Node::Repeat { .. } => {}
        }
    }

    /// All strings that a node can match, if they are few, short, and no date can stand in them.
    fn exact(self, node: &Node) -> Option<Strings> {
        match node {
            Node::Empty | Node::Assert(_) | Node::Look { .. } => Some(vec![Vec::new()]),
            // The newline at the end of the text may not be one of the line.
            Node::Char('\n' | '\u{FFFD}') => None,
            Node::Char(c) => Some(vec![bytes(*c)]),
            Node::Class(class) => spelt(class),
            Node::Capture { node, .. } | Node::Atomic(node) => self.exact(node),
            Node::Concat(parts) => {
                let mut strings = vec![Vec::new()];
                for part in parts {
                    strings = self.around.product(&strings, &self.exact(part)?)?;
                }
                Some(strings)
            }
            Node::Alternate(parts) => {
                let mut strings = Vec::new();
                for part in parts {
                    strings.extend(self.exact(part)?);
                    strings.sort();
                    strings.dedup();
                    if strings.len() > MOST_VARIANTS {
                        return None;
                    }
                }
                Some(strings)
            }
            Node::Conditional { yes, no, .. } => {
                let mut strings = self.exact(yes)?;
                strings.extend(self.exact(no)?);
                strings.sort();
                strings.dedup();
                (strings.len() <= MOST_VARIANTS).then_some(strings)
            }
            Node::Repeat { node, min: 0, max: Some(1), .. } => {
                let mut strings = self.exact(node)?;
                strings.push(Vec::new());
                (strings.len() <= MOST_VARIANTS).then_some(strings)
            }
            Node::Repeat { node, min, max: Some(max), .. } if min == max && *max <= 4 => {
                let once = self.exact(node)?;
                let mut strings = vec![Vec::new()];
                for _ in 0..*min {
                    strings = self.around.product(&strings, &once)?;
                }
                Some(strings)
            }
            Node::Repeat { .. } | Node::Backref { .. } => None,
        }
    }
}

/// The parts of a node one after the other, groups opened.
fn flatten<'a>(node: &'a Node, parts: &mut Vec<&'a Node>) {
    match node {
        Node::Concat(nodes) => nodes.iter().for_each(|node| flatten(node, parts)),
        Node::Capture { node, .. } | Node::Atomic(node) => flatten(node, parts),
        _ => parts.push(node),
    }
}

/// Strings that grow part by part.
#[derive(Default)]
struct Run {
    strings: Strings,
}

impl Run {
    /// Appends one of `next` to each string; false, with nothing done, if that would be too
    /// much or tear-prone.
    fn append(&mut self, around: Around, next: &Strings) -> bool {
        if self.strings.is_empty() {
            self.strings.push(Vec::new());
        }
        match around.product(&self.strings, next) {
            Some(strings) => {
                self.strings = strings;
                true
            }
            None => false,
        }
    }

    fn finish(&mut self, sets: &mut Vec<Strings>) {
        let strings = std::mem::take(&mut self.strings);
        if !strings.is_empty() && strings.iter().all(|s| s.len() >= SHORTEST) {
            sets.push(strings);
        }
    }
}

fn spelt(class: &Class) -> Option<Strings> {
    let other: u32 =
        class.other.iter().map(|&(first, last)| last as u32 - first as u32 + 1).fold(0, u32::saturating_add);
    let count = class.ascii.count_ones().saturating_add(other);
    let newline = class.ascii >> b'\n' & 1 == 1;
    if count == 0 || count > MOST_OF_A_CLASS || newline || class.contains('\u{FFFD}') {
        return None;
    }
    let ascii = (0..128u8).filter(|byte| class.ascii >> byte & 1 == 1).map(char::from);
    let other = class.other.iter().flat_map(|&(first, last)| first..=last);
    Some(ascii.chain(other).map(bytes).collect())
}

fn bytes(c: char) -> Vec<u8> {
    c.encode_utf8(&mut [0; 4]).as_bytes().to_vec()
}

impl Around {
    /// Each of `left` followed by each of `right`, if that is allowed.
    fn product(self, left: &Strings, right: &Strings) -> Option<Strings> {
        if left.len() * right.len() > MOST_VARIANTS {
            return None;
        }
        let mut strings = Vec::with_capacity(left.len() * right.len());
        for a in left {
            for b in right {
                if let (Some(&last), Some(&first)) = (a.last(), b.first())
                    && self.may_tear(last, first)
                {
                    return None;
                }
                if a.len() + b.len() > LONGEST {
                    return None;
                }
                strings.push([a.as_slice(), b].concat());
            }
        }
        strings.sort();
        strings.dedup();
        Some(strings)
    }
}

/// Whether a byte is surely part of a word for every date template.
fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::super::syntax::{Greed, Pattern};
    use super::*;

    fn text(text: &str) -> Node {
        Node::Concat(text.chars().map(Node::Char).collect())
    }

    fn any() -> Node {
        let class = Class { ascii: !(1 << 10), other: [('\u{80}', char::MAX)].into() };
        Node::Repeat { node: Box::new(Node::Class(class)), min: 0, max: None, greed: Greed::Greedy }
    }

    fn ignoring_case(text: &str) -> Node {
        let class = |c: char| {
            let ascii = 1 << c.to_ascii_lowercase() as u32 | 1 << c.to_ascii_uppercase() as u32;
            Node::Class(Class { ascii, other: [].into() })
        };
        Node::Concat(text.chars().map(class).collect())
    }

    fn pattern(parts: Vec<Node>) -> Pattern {
        Pattern { root: Node::Concat(parts), groups: 0, names: Vec::new() }
    }

    fn guess(pattern: &Pattern, around: Around) -> Vec<String> {
        let patterns = Patterns { prefix: None, failures: &[pattern] };
        let strings = Choices::new(patterns, around).guess().unwrap_or_default();
        strings.into_iter().map(|s| String::from_utf8(s).unwrap()).collect()
    }

    #[test]
    fn no_string_has_a_place_where_a_date_could_have_been() {
        let pattern = pattern(vec![text("] [Zurueckgewiesen: Anmeldung"), any(), text("ab")]);
        assert_eq!(guess(&pattern, Around::NonWord), ["[Zurueckgewiesen:"]);
        assert_eq!(guess(&pattern, Around::NonWordAfter), ["[Zurueckgewiesen"]);
        assert!(guess(&pattern, Around::Unknown).is_empty());
    }

    #[test]
    fn branches_bring_one_string_each_or_none_at_all() {
        let branches = |second: Node| Node::Alternate(vec![Node::Concat(vec![text("refused"), any()]), second]);
        let complete = pattern(vec![branches(Node::Concat(vec![any(), text("denied")])), any()]);
        assert_eq!(guess(&complete, Around::NonWord), ["denied", "refused"]);
        let incomplete = pattern(vec![branches(any()), text("x"), any()]);
        assert!(guess(&incomplete, Around::NonWord).is_empty());
    }

    #[test]
    fn optional_parts_and_both_cases_are_spelt_out_within_bounds() {
        let optional = Node::Repeat { node: Box::new(text("user ")), min: 0, max: Some(1), greed: Greed::Greedy };
        let spelt = pattern(vec![any(), text("invalid "), optional, text("root"), any()]);
        assert_eq!(guess(&spelt, Around::NonWord), ["invalid root", "invalid user root"]);
        let cases = guess(&pattern(vec![any(), ignoring_case("quixotic"), any()]), Around::NonWord);
        assert!(cases.len() <= MOST_VARIANTS && cases.iter().all(|s| s.len() >= 4), "{cases:?}");
    }

    #[test]
    fn the_sample_decides_between_the_prefix_and_the_failregexes() {
        let prefix = pattern(vec![any(), text("named"), any()]);
        let failure = pattern(vec![any(), text("denied"), any()]);
        let choices = Choices::new(Patterns { prefix: Some(&prefix), failures: &[&failure] }, Around::NonWord);
        let cost = |rare: &'static [u8]| move |s: &[u8]| if s == rare { 1.0 } else { 2.0 };
        assert_eq!(choices.choose(&cost(b"named")).unwrap(), [b"named"]);
        assert_eq!(choices.choose(&cost(b"denied")).unwrap(), [b"denied"]);
    }
}
