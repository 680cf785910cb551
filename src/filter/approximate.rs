//! A pattern made regular: an automaton's pattern that accepts at least every text the real one does.
//!
//! Most lines match nothing, and a lazy DFA says so a hundred times faster than the exact
//! matcher. It may say "perhaps" too often but never "no" wrongly, so every part of the
//! pattern is replaced by something that accepts the same strings or more: conditions on the
//! position vanish, a back-reference becomes whatever its group can match, a character
//! outside of ASCII becomes "some high bytes" (which also covers bytes that are no UTF-8 and
//! would be decoded to U+FFFD).
//!
//! The text is a line without its date and with a final newline. With a prefix pattern that
//! captures the content, prefix and failregexes become one pattern.

use regex_syntax::hir::{Class as HirClass, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

use super::syntax::{Assertion, Class, Node, Pattern, Side};

/// Counts above this are "so many or more": long counts make large automata.
const LONGEST_COUNT: u32 = 16;

/// Back-references inside of groups that are referred to, before "anything" takes over.
const DEEPEST_BACKREF: u32 = 3;

/// What a filter searches a line for.
#[derive(Clone, Copy, Debug)]
pub struct Patterns<'a> {
    /// It has to match first; what it captures as `content` is what the others see.
    pub prefix: Option<&'a Pattern>,
    /// At least one of them has to match.
    pub failures: &'a [&'a Pattern],
}

/// The over-approximation of a single pattern on a text of its own.
#[must_use]
pub fn pattern(pattern: &Pattern) -> Hir {
    let lowering = Lowering { pattern, place: Place::Whole, conjunct: false, content: None, depth: 0 };
    trim(&lowering.split(&pattern.root).join())
}

/// The over-approximation of "this filter recognises the line", on the line.
#[must_use]
pub fn filter(patterns: Patterns<'_>) -> Hir {
    build(patterns, false)
}

/// A second one, which contains a positive look-ahead as text and ends behind it: `X(?=A)R`
/// is in `XR` as well as in `XA`. A line that the filter recognises is in both. `None` if
/// there is no such look-ahead.
#[must_use]
pub fn conjunct(patterns: Patterns<'_>) -> Option<Hir> {
    let looks =
        patterns.prefix.is_some_and(|p| looks_ahead(&p.root)) || patterns.failures.iter().any(|p| looks_ahead(&p.root));
    looks.then(|| build(patterns, true))
}

/// The pattern as a text that other tools understand, for a look at it or a comparison.
///
/// Such tools see lines with their date, so what stood at the beginning of the text may
/// stand anywhere.
#[must_use]
pub fn to_regex_text(hir: &Hir) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = regex_syntax::hir::print::Printer::new().print(&for_lines(hir), &mut text);
    text
}

/// Without the start of the text, and with the end of the line in place of its newline.
fn for_lines(hir: &Hir) -> Hir {
    let end = || Hir::look(Look::EndLF);
    match hir.kind() {
        HirKind::Look(Look::Start | Look::StartLF) => Hir::empty(),
        HirKind::Look(_) => end(),
        // Brackets without anything in them are where the date was cut out.
        HirKind::Literal(literal) if literal.0.windows(2).any(|pair| pair == b"[]") => {
            let at = literal.0.windows(2).position(|pair| pair == b"[]").map_or(0, |at| at + 1);
            let (before, after) = literal.0.split_at(at);
            let mut date = ClassBytes::new([ClassBytesRange::new(0, 0xFF)]);
            date.difference(&ClassBytes::new([b'\n', b']'].map(|byte| ClassBytesRange::new(byte, byte))));
            let sub = Box::new(Hir::class(HirClass::Bytes(date)));
            let date = Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub });
            Hir::concat(vec![for_lines(&Hir::literal(before.to_vec())), date, for_lines(&Hir::literal(after.to_vec()))])
        }
        HirKind::Literal(literal) if literal.0.contains(&b'\n') => {
            let mut parts = Vec::new();
            for part in literal.0.split(|&b| b == b'\n') {
                parts.push(Hir::literal(part.to_vec()));
                parts.push(end());
            }
            parts.pop();
            Hir::concat(parts)
        }
        HirKind::Class(HirClass::Bytes(class)) => {
            let without = without_newline(class);
            if without == *class {
                return hir.clone();
            }
            Hir::alternation(vec![Hir::class(HirClass::Bytes(without)), end()])
        }
        HirKind::Repetition(r) => {
            let sub = match r.sub.kind() {
                HirKind::Class(HirClass::Bytes(class)) if r.min == 0 => {
                    Hir::class(HirClass::Bytes(without_newline(class)))
                }
                _ => for_lines(&r.sub),
            };
            Hir::repetition(Repetition { sub: Box::new(sub), ..r.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(for_lines).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(for_lines).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Capture(_) => hir.clone(),
    }
}

fn without_newline(class: &ClassBytes) -> ClassBytes {
    let mut without = class.clone();
    without.difference(&ClassBytes::new([ClassBytesRange::new(b'\n', b'\n')]));
    without
}

/// Prefix and failregexes as one pattern; with `conjunct` each way ends behind its first
/// positive look-ahead.
fn build(patterns: Patterns<'_>, conjunct: bool) -> Hir {
    let whole = |conjunct| {
        let each = patterns.failures.iter().map(|pattern| {
            Lowering { pattern, place: Place::Whole, conjunct, content: None, depth: 0 }.split(&pattern.root).join()
        });
        Hir::alternation(each.collect())
    };
    let Some(prefix) = patterns.prefix else { return trim(&whole(conjunct)) };
    let mut lowering = Lowering { pattern: prefix, place: Place::Whole, conjunct, content: None, depth: 0 };
    let Some(content) = prefix.group("content") else {
        // The failregexes see the line, as without a prefix; one of the two has to be tested here.
        return if conjunct && looks_ahead(&prefix.root) {
            trim(&lowering.split(&prefix.root).join())
        } else {
            trim(&whole(conjunct))
        };
    };
    let body = capture(&prefix.root, content);
    let to_the_end = after(&prefix.root, content) == Some(After::End) && body.is_some_and(|body| !has_newline(body));
    let place = if to_the_end { Place::Rest } else { Place::Middle };
    let inner = patterns.failures.iter().map(|pattern| {
        let lowering = Lowering { pattern, place, conjunct, content: None, depth: 0 };
        let lowered = lowering.split(&pattern.root).join();
        if starts_at_the_start(&pattern.root) { lowered } else { Hir::concat(vec![anything(), lowered]) }
    });
    lowering.content = Some((content, Hir::alternation(inner.collect())));
    let mut ways = vec![lowering.split(&prefix.root).join()];
    if body.is_some_and(nullable) {
        // An empty content leaves the failregexes the whole line.
        ways.push(whole(conjunct));
    }
    trim(&Hir::alternation(ways))
}

/// Where the text of a pattern lies in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is the line.
    Whole,
    /// It begins somewhere and goes to the end of the line.
    Rest,
    /// It begins and ends somewhere, and has a newline that the line does not have there.
    Middle,
}

/// What a node became: what more may follow, and what is complete as it is.
struct Split {
    open: Option<Hir>,
    closed: Vec<Hir>,
}

impl Split {
    fn open(hir: Hir) -> Split {
        Split { open: Some(hir), closed: Vec::new() }
    }

    fn join(self) -> Hir {
        let mut ways = self.closed;
        ways.extend(self.open);
        Hir::alternation(ways)
    }
}

struct Lowering<'a> {
    pattern: &'a Pattern,
    place: Place,
    conjunct: bool,
    /// The group in whose place something else stands, after which nothing more is said.
    content: Option<(u32, Hir)>,
    depth: u32,
}

impl Lowering<'_> {
    fn split(&self, node: &Node) -> Split {
        match node {
            Node::Capture { index, .. } if self.content.as_ref().is_some_and(|(group, _)| group == index) => {
                Split { open: None, closed: self.content.iter().map(|(_, hir)| hir.clone()).collect() }
            }
            Node::Look { node, side: Side::Ahead, negative: false } if self.conjunct => {
                Split { open: None, closed: vec![self.lower(node)] }
            }
            Node::Capture { node, .. } | Node::Atomic(node) => self.split(node),
            Node::Concat(parts) => {
                let mut open = Vec::new();
                let mut closed = Vec::new();
                for part in parts {
                    let next = self.split(part);
                    for end in next.closed {
                        closed.push(Hir::concat(open.iter().cloned().chain([end]).collect()));
                    }
                    match next.open {
                        Some(hir) => open.push(hir),
                        None => return Split { open: None, closed },
                    }
                }
                Split { open: Some(Hir::concat(open)), closed }
            }
            Node::Alternate(parts) => self.either(parts.iter()),
            Node::Conditional { yes, no, .. } => self.either([&**yes, &**no].into_iter()),
            _ => Split::open(self.lower(node)),
        }
    }

    fn either<'n>(&self, parts: impl Iterator<Item = &'n Node>) -> Split {
        let mut open = Vec::new();
        let mut closed = Vec::new();
        for part in parts {
            let split = self.split(part);
            open.extend(split.open);
            closed.extend(split.closed);
        }
        let open = if open.is_empty() { None } else { Some(Hir::alternation(open)) };
        Split { open, closed }
    }

    fn lower(&self, node: &Node) -> Hir {
        match node {
            Node::Empty | Node::Look { .. } => Hir::empty(),
            Node::Char(c) if c.is_ascii() => {
                let hir = Hir::literal([*c as u8]);
                if *c == '\n' && self.place == Place::Middle { optional(hir) } else { hir }
            }
            // A byte that is no UTF-8 is decoded to this character.
            Node::Char('\u{FFFD}') => high(1),
            Node::Char(c) => Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes().to_vec()),
            Node::Class(class) => {
                let mut ways = vec![Hir::class(HirClass::Bytes(ascii(class)))];
                if !class.other.is_empty() {
                    ways.push(high(1));
                }
                let hir = Hir::alternation(ways);
                if has_newline(node) && self.place == Place::Middle { optional(hir) } else { hir }
            }
            Node::Concat(parts) => Hir::concat(parts.iter().map(|part| self.lower(part)).collect()),
            Node::Alternate(parts) => Hir::alternation(parts.iter().map(|part| self.lower(part)).collect()),
            Node::Capture { node, .. } | Node::Atomic(node) => self.lower(node),
            Node::Repeat { node, min, max, .. } => self.repeat(node, *min, *max),
            Node::Assert(assertion) => self.assertion(*assertion),
            Node::Backref { group, ignore_case } => match capture(&self.pattern.root, *group) {
                Some(node) if !ignore_case && self.depth < DEEPEST_BACKREF => {
                    Lowering { depth: self.depth + 1, content: None, ..*self }.lower(node)
                }
                _ => anything(),
            },
            Node::Conditional { yes, no, .. } => Hir::alternation(vec![self.lower(yes), self.lower(no)]),
        }
    }

    fn repeat(&self, node: &Node, min: u32, max: Option<u32>) -> Hir {
        let max = max.filter(|&max| max <= LONGEST_COUNT);
        let mut min = min.min(LONGEST_COUNT);
        let sub = match class_of(node) {
            // Repeated without end, "one character" and "one of its bytes" are the same.
            Some(class) if max.is_none() => {
                let mut bytes = ascii(class);
                if !class.other.is_empty() {
                    bytes.push(ClassBytesRange::new(0x80, 0xFF));
                }
                if has_newline(node) && self.place == Place::Middle {
                    min = min.saturating_sub(1);
                }
                Hir::class(HirClass::Bytes(bytes))
            }
            _ => self.lower(node),
        };
        Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(sub) })
    }

    fn assertion(&self, assertion: Assertion) -> Hir {
        let look = match (assertion, self.place) {
            (Assertion::Start, Place::Whole) => Look::Start,
            (Assertion::LineStart, Place::Whole) => Look::StartLF,
            // A newline that is not the last byte can only come from a journal; accepting
            // more there does no harm.
            (Assertion::End | Assertion::LineEnd, Place::Whole | Place::Rest) => Look::EndLF,
            (Assertion::VeryEnd, Place::Whole | Place::Rest) => Look::End,
            _ => return Hir::empty(),
        };
        Hir::look(look)
    }
}

/// The ASCII characters of a class.
pub(super) fn ascii(class: &Class) -> ClassBytes {
    let mut bytes = ClassBytes::empty();
    for byte in 0..128u8 {
        if class.ascii >> byte & 1 == 1 {
            bytes.push(ClassBytesRange::new(byte, byte));
        }
    }
    bytes
}

/// The class that a node is, if it is one (perhaps in groups that do not matter here).
fn class_of(node: &Node) -> Option<&Class> {
    match node {
        Node::Class(class) => Some(class),
        Node::Capture { node, .. } | Node::Atomic(node) => class_of(node),
        _ => None,
    }
}

/// At least `min` bytes above ASCII.
fn high(min: u32) -> Hir {
    let sub = Box::new(Hir::class(HirClass::Bytes(ClassBytes::new([ClassBytesRange::new(0x80, 0xFF)]))));
    Hir::repetition(Repetition { min, max: None, greedy: true, sub })
}

fn anything() -> Hir {
    let sub = Box::new(Hir::class(HirClass::Bytes(ClassBytes::new([ClassBytesRange::new(0, 0xFF)]))));
    Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub })
}

fn optional(hir: Hir) -> Hir {
    Hir::repetition(Repetition { min: 0, max: Some(1), greedy: true, sub: Box::new(hir) })
}

/// The inside of a capturing group.
fn capture(node: &Node, group: u32) -> Option<&Node> {
    match node {
        Node::Capture { index, node } if *index == group => Some(node),
        Node::Capture { node, .. } | Node::Atomic(node) | Node::Repeat { node, .. } | Node::Look { node, .. } => {
            capture(node, group)
        }
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().find_map(|part| capture(part, group)),
        Node::Conditional { yes, no, .. } => capture(yes, group).or_else(|| capture(no, group)),
        _ => None,
    }
}

/// What follows a group inside of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    End,
    More,
}

/// What follows the group; `None` if it is not in here.
fn after(node: &Node, group: u32) -> Option<After> {
    match node {
        Node::Capture { index, .. } if *index == group => Some(After::Nothing),
        Node::Concat(parts) => {
            let at = parts.iter().position(|part| capture_is(part, group))?;
            let mut found = after(&parts[at], group)?;
            for part in &parts[at + 1..] {
                found = match part {
                    Node::Empty => found,
                    Node::Assert(Assertion::End) if found != After::More => After::End,
                    _ => After::More,
                };
            }
            Some(found)
        }
        Node::Capture { node, .. } => after(node, group),
        // In one of several branches, or repeated: not worth the thought.
        _ => capture_is(node, group).then_some(After::More),
    }
}

fn capture_is(node: &Node, group: u32) -> bool {
    capture(node, group).is_some()
}

/// Whether a match always begins where the text begins.
fn starts_at_the_start(node: &Node) -> bool {
    match node {
        Node::Assert(Assertion::Start) => true,
        Node::Capture { node, .. } | Node::Atomic(node) => starts_at_the_start(node),
        Node::Alternate(parts) => parts.iter().all(starts_at_the_start),
        Node::Concat(parts) => {
            for part in parts {
                if starts_at_the_start(part) {
                    return true;
                }
                if !matches!(part, Node::Empty | Node::Assert(_) | Node::Look { .. }) {
                    return false;
                }
            }
            false
        }
        _ => false,
    }
}

/// Whether a node can match nothing.
pub(in crate::filter) fn nullable(node: &Node) -> bool {
    match node {
        Node::Char(_) | Node::Class(_) => false,
        Node::Concat(parts) => parts.iter().all(nullable),
        Node::Alternate(parts) => parts.iter().any(nullable),
        Node::Repeat { node, min, .. } => *min == 0 || nullable(node),
        Node::Capture { node, .. } | Node::Atomic(node) => nullable(node),
        Node::Conditional { yes, no, .. } => nullable(yes) || nullable(no),
        Node::Empty | Node::Assert(_) | Node::Look { .. } | Node::Backref { .. } => true,
    }
}

/// Whether a node can consume a newline.
fn has_newline(node: &Node) -> bool {
    match node {
        Node::Char(c) => *c == '\n',
        Node::Class(class) => class.ascii >> b'\n' & 1 == 1,
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().any(has_newline),
        Node::Repeat { node, .. } | Node::Capture { node, .. } | Node::Atomic(node) => has_newline(node),
        Node::Conditional { yes, no, .. } => has_newline(yes) || has_newline(no),
        Node::Backref { .. } => true,
        Node::Empty | Node::Assert(_) | Node::Look { .. } => false,
    }
}

/// Whether there is a positive look-ahead that a conjunct can use: not inside of a repetition.
fn looks_ahead(node: &Node) -> bool {
    match node {
        Node::Look { side: Side::Ahead, negative: false, .. } => true,
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().any(looks_ahead),
        Node::Capture { node, .. } | Node::Atomic(node) => looks_ahead(node),
        Node::Conditional { yes, no, .. } => looks_ahead(yes) || looks_ahead(no),
        _ => false,
    }
}

/// Cuts what says nothing at the end: an automaton that only tells whether there is a match
/// may stop at its earliest end.
pub(super) fn trim(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Concat(parts) => {
            let mut parts = parts.clone();
            while let Some(last) = parts.pop() {
                if says_nothing(&last) {
                    continue;
                }
                // `.*$` says nothing either: the text ends in a newline, and `.` has all the rest.
                if matches!(last.kind(), HirKind::Look(Look::EndLF))
                    && let Some(least) = parts.last().and_then(dots)
                {
                    let dots = parts.pop();
                    if let (1.., Some(HirKind::Repetition(r))) = (least, dots.as_ref().map(Hir::kind)) {
                        parts.push(Hir::repetition(Repetition { max: Some(least), ..r.clone() }));
                    }
                    continue;
                }
                parts.push(trim(&last));
                break;
            }
            Hir::concat(parts)
        }
        HirKind::Repetition(_) if says_nothing(hir) => Hir::empty(),
        HirKind::Repetition(r) if r.min == 1 => trim(&r.sub),
        HirKind::Repetition(r) if r.min > 1 => Hir::repetition(Repetition { max: Some(r.min), ..r.clone() }),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(trim).collect()),
        _ => hir.clone(),
    }
}

/// Whether the empty string matches, wherever it is.
fn says_nothing(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Repetition(r) => r.min == 0 || says_nothing(&r.sub),
        HirKind::Concat(parts) => parts.iter().all(says_nothing),
        HirKind::Alternation(parts) => parts.iter().any(says_nothing),
        HirKind::Capture(c) => says_nothing(&c.sub),
        HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// How often at least, if it is `.` over and over.
fn dots(hir: &Hir) -> Option<u32> {
    let HirKind::Repetition(r) = hir.kind() else { return None };
    let HirKind::Class(HirClass::Bytes(class)) = r.sub.kind() else { return None };
    let mut all = ClassBytes::new([ClassBytesRange::new(0, b'\n' - 1), ClassBytesRange::new(b'\n' + 1, 0xFF)]);
    all.difference(class);
    (r.max.is_none() && all.ranges().is_empty()).then_some(r.min)
}

#[cfg(test)]
mod tests {
    use super::super::set::Automaton;
    use super::super::syntax::Greed;
    use super::*;

    fn text(text: &str) -> Node {
        Node::Concat(text.chars().map(Node::Char).collect())
    }

    fn class(bytes: &[u8], negated: bool) -> Node {
        let ascii = bytes.iter().fold(0u128, |set, &byte| set | 1 << byte);
        let other: &[(char, char)] = if negated { &[('\u{80}', char::MAX)] } else { &[] };
        Node::Class(Class { ascii: if negated { !ascii } else { ascii }, other: other.into() })
    }

    fn repeat(node: Node, min: u32, max: Option<u32>) -> Node {
        Node::Repeat { node: Box::new(node), min, max, greed: Greed::Greedy }
    }

    fn any() -> Node {
        repeat(class(b"\n", true), 1, None)
    }

    fn look(node: Node, negative: bool) -> Node {
        Node::Look { node: Box::new(node), side: Side::Ahead, negative }
    }

    const START: Node = Node::Assert(Assertion::Start);
    const END: Node = Node::Assert(Assertion::End);

    fn parse(parts: Vec<Node>) -> Pattern {
        Pattern { root: Node::Concat(parts), groups: 1, names: vec![("content".to_owned(), 1)] }
    }

    fn accepts(hir: &Hir, line: &str) -> bool {
        let text = format!("{line}\n");
        Automaton::new(hir).is_none_or(|automaton| automaton.may_match(&mut automaton.cache(), &[text.as_bytes()]))
    }

    #[test]
    fn the_end_is_before_the_newline() {
        let hir = pattern(&parse(vec![START, text("bad "), repeat(class(b"0123456789", false), 1, None), END]));
        assert!(accepts(&hir, "bad 12"));
        assert!(!accepts(&hir, "bad 12 "));
        assert!(!accepts(&hir, " bad 12"));
    }

    #[test]
    fn one_character_may_be_any_number_of_high_bytes() {
        let hir =
            pattern(&parse(vec![START, text("a"), class(b"\n", true), repeat(class(b" ", true), 2, Some(3)), END]));
        assert!(accepts(&hir, "a\u{20ac}xy"));
        assert!(accepts(&hir, "ax\u{e4}\u{1f600}"));
        assert!(!accepts(&hir, "a\u{20ac}x y"));
    }

    #[test]
    fn a_negative_look_ahead_is_ignored_and_a_positive_one_makes_a_second_pattern() {
        let failure = parse(vec![START, text("lost"), look(text(" now"), false), look(text("x"), true), any(), END]);
        let patterns = Patterns { prefix: None, failures: &[&failure] };
        assert!(accepts(&filter(patterns), "lost then"));
        let second = conjunct(patterns).expect("there is a look-ahead");
        assert!(accepts(&second, "lost now"));
        assert!(!accepts(&second, "lost then"));
        assert!(conjunct(Patterns { prefix: None, failures: &[&parse(vec![text("a")])] }).is_none());
    }

    #[test]
    fn prefix_and_failregex_become_one() {
        let content = |inner| Node::Capture { index: 1, node: Box::new(inner) };
        let failure = parse(vec![START, text("bad "), any(), text("!"), END]);
        let loose = parse(vec![text("worse"), repeat(class(b" \n", false), 1, None), END]);
        let to_the_end = parse(vec![START, text("p: "), content(any()), END]);
        let hir = filter(Patterns { prefix: Some(&to_the_end), failures: &[&failure, &loose] });
        for (line, expected) in [
            ("p: bad x!", true),
            ("p: bad x", false),
            ("bad x!", false),
            ("p: very bad x!", false),
            ("p: much worse", true),
            ("p: worse things", false),
        ] {
            assert_eq!(accepts(&hir, line), expected, "{line}");
        }
        // The content ends before the line does; it still has a newline of its own.
        let inside = parse(vec![START, text("p: "), content(any()), text(" (end)"), END]);
        let hir = filter(Patterns { prefix: Some(&inside), failures: &[&failure, &loose] });
        assert!(accepts(&hir, "p: bad x! (end)"));
        assert!(accepts(&hir, "p: much worse (end)"));
        assert!(!accepts(&hir, "p: good (end)"));
        // With an empty content the failregexes see the line.
        let empty = parse(vec![START, content(repeat(class(b"q", false), 0, None))]);
        let hir = filter(Patterns { prefix: Some(&empty), failures: &[&failure] });
        assert!(accepts(&hir, "bad x!"));
    }

    #[test]
    fn a_back_reference_is_what_its_group_can_be() {
        let quote = Node::Capture { index: 1, node: Box::new(class(b"'\"", false)) };
        let again = Node::Backref { group: 1, ignore_case: false };
        let hir = pattern(&parse(vec![START, quote, text("x"), again, END]));
        assert!(accepts(&hir, "'x'"));
        assert!(accepts(&hir, "'x\""));
        assert!(!accepts(&hir, "'x-"));
    }

    #[test]
    fn large_counts_have_no_upper_bound() {
        let hir = pattern(&parse(vec![START, repeat(text("ab"), 3, Some(1000)), END]));
        assert!(accepts(&hir, &"ab".repeat(3)));
        assert!(accepts(&hir, &"ab".repeat(2000)));
        assert!(!accepts(&hir, &"ab".repeat(2)));
    }

    #[test]
    fn the_text_form_is_about_whole_lines() {
        let space = class(b" \n", false);
        let failure = parse(vec![START, text("x"), space, text("y"), END]);
        let text = to_regex_text(&filter(Patterns { prefix: None, failures: &[&failure] }));
        assert!(!text.contains('\n') && !text.contains(r"\A"), "{text}");
        assert!(regex_syntax::ParserBuilder::new().utf8(false).build().parse(&text).is_ok(), "{text}");
    }
}
