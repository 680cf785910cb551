//! `name[a=1, b="2, 3"]`: a filter or action with arguments, and the small value types.

use indexmap::IndexMap;

use super::ini::is_space;
use super::text::Text;

/// Most arguments one list may have.
pub const MAX_ARGUMENTS: usize = 1000;

/// A name with its arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name; blanks before the bracket belong to it.
    pub name: Text,
    /// Arguments in the order of their first mention, names as written.
    pub arguments: IndexMap<String, Text>,
}

/// What is wrong with a list, in Fail2Ban's words, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// The words.
    pub text: String,
    /// Byte offset in the whole list.
    pub offset: usize,
}

/// Takes a list apart.
///
/// # Errors
/// If it does not follow the grammar.
pub fn parse(list: &Text) -> Result<Call, Error> {
    let text = list.as_str();
    let bad = |offset: usize| Error { text: "unexpected option syntax".to_owned(), offset };
    let Some(open) = text.find('[') else {
        return if text.is_empty() { Err(bad(0)) } else { Ok(Call { name: list.clone(), arguments: IndexMap::new() }) };
    };
    if open == 0 {
        return Err(bad(0));
    }
    let close = text.rfind(']').filter(|&close| close > open).ok_or_else(|| bad(open))?;
    if !text[close + 1..].chars().all(is_space) {
        return Err(bad(close + 1));
    }
    let arguments = arguments(&list.slice(open + 1..close), open + 1)?;
    Ok(Call { name: list.slice(0..open), arguments })
}

/// The inside of the brackets, also used alone (`ignorecache`). `base` is where it begins.
///
/// # Errors
/// If it does not follow the grammar.
pub fn arguments(body: &Text, base: usize) -> Result<IndexMap<String, Text>, Error> {
    let text = body.as_str();
    let chars_before = |offset: usize| text[..offset].chars().count();
    let mut found = IndexMap::new();
    let mut at = 0;
    while at < text.len() {
        let Some(item) = item(text, at) else {
            let rest = &text[at..];
            let after_comma = rest.strip_prefix(',').unwrap_or(rest);
            if after_comma.chars().all(is_space) {
                break;
            }
            let words = format!("expected option, wrong syntax at {}: {rest}", chars_before(at));
            return Err(Error { text: words, offset: base + at });
        };
        let end = terminator(text, item.end).ok_or_else(|| Error {
            text: format!(
                "unexpected syntax at {} after option '{}': {}",
                chars_before(item.end),
                &text[item.name.clone()],
                &text[item.end..]
            ),
            offset: base + item.end,
        })?;
        if found.len() >= MAX_ARGUMENTS {
            return Err(Error { text: format!("more than {MAX_ARGUMENTS} options"), offset: base + at });
        }
        found.insert(text[item.name].to_owned(), body.slice(item.value).trim());
        at = end;
    }
    Ok(found)
}

struct Item {
    name: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    /// Behind the value and its closing quote.
    end: usize,
}

/// `name=value` at this place, after blanks.
fn item(text: &str, at: usize) -> Option<Item> {
    let start = at + skip_blanks(&text[at..]);
    let name_end = start + option_name(&text[start..])?;
    let value = name_end + 1;
    let rest = text[name_end..].strip_prefix('=')?;
    for quote in ['"', '\''] {
        if let Some(length) = rest.strip_prefix(quote).and_then(|inner| inner.find(quote)) {
            return Some(Item { name: start..name_end, value: value + 1..value + 1 + length, end: value + length + 2 });
        }
    }
    let length = rest.find([',', ']']).unwrap_or(rest.len());
    Some(Item { name: start..name_end, value: value..value + length, end: value + length })
}

/// Length of an option name, possibly with a condition (`opt?family=inet6`, of 1.1).
fn option_name(text: &str) -> Option<usize> {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let length = text.find(|c| !word(c)).unwrap_or(text.len());
    if length == 0 {
        return None;
    }
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(condition) = text[length..].strip_prefix('?') {
        let key = condition.find(|c| !plain(c)).unwrap_or(condition.len());
        let value = condition[key..].strip_prefix('=')?;
        let value_length = value.find(|c| !plain(c)).unwrap_or(value.len());
        if key > 0 && value_length > 0 && value[value_length..].starts_with('=') {
            return Some(length + 1 + key + 1 + value_length);
        }
        return None;
    }
    Some(length)
}

/// Behind the comma, the group boundary `] [`, or the end.
fn terminator(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    if rest.is_empty() {
        return Some(at);
    }
    if rest == "\n" || rest.starts_with(',') {
        return Some(at + 1);
    }
    let inner = rest.strip_prefix(']')?;
    let blanks = skip_blanks(inner);
    inner[blanks..].starts_with('[').then_some(at + 1 + blanks + 1)
}

fn skip_blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

/// The actions of a value: separated by blanks or newlines, except inside brackets.
#[must_use]
pub fn split(list: &Text) -> Vec<Text> {
    let text = list.as_str();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at += skip_blanks(&text[at..]);
        if at >= text.len() {
            return found;
        }
        let name = at + text[at..].find(|c| is_space(c) || c == '[').unwrap_or(text.len() - at);
        let word = at + text[at..].find(is_space).unwrap_or(text.len() - at);
        let end = if name == at { word } else { groups(text, name).unwrap_or(word) };
        found.push(list.slice(at..end));
        at = end;
    }
}

/// The end of the bracket groups that begin here (after blanks), if they are well formed and
/// end the token.
fn groups(text: &str, at: usize) -> Option<usize> {
    let mut end = None;
    let mut place = at;
    loop {
        let open = place + skip_blanks(&text[place..]);
        if !text[open..].starts_with('[') {
            break;
        }
        let Some(close) = group(text, open + 1) else { break };
        end = Some(close);
        place = close;
    }
    let end = end?;
    text[end..].chars().next().is_none_or(is_space).then_some(end)
}

/// One group from behind its bracket to behind the closing one.
fn group(text: &str, mut at: usize) -> Option<usize> {
    loop {
        at += skip_blanks(&text[at..]);
        if text[at..].starts_with(']') {
            return Some(at + 1);
        }
        let item = item(text, at)?;
        at = item.end + skip_blanks(&text[item.end..]);
        if !text[at..].starts_with([',', ']']) {
            // What began like a quoted value may be one without quotes.
            at = item.value.start + text[item.value.start..].find([',', ']'])?;
        }
        if text[at..].starts_with(',') {
            at += 1;
        }
    }
}

/// A truth value: `1`, `on`, `true` and `yes` are true, anything else is false.
#[must_use]
pub fn boolean(text: &str) -> bool {
    ["1", "on", "true", "yes"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A whole number as Python's `int` reads it: sign, blanks around it, `_` between digits.
#[must_use]
pub fn integer(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.split('_').any(|group| group.is_empty() || !group.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// The words of a list that is separated by blanks, commas and newlines.
#[must_use]
pub fn words(text: &Text) -> Vec<Text> {
    let mut found = Vec::new();
    let mut start = None;
    let separator = |c: char| c == ',' || is_space(c);
    for (index, c) in text.as_str().char_indices().chain([(text.len(), ',')]) {
        match (start, separator(c)) {
            (None, false) => start = Some(index),
            (Some(begin), true) => {
                found.push(text.slice(begin..index));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// Words as a shell splits them: quotes and backslashes, no expansion. None if a quote is open.
#[must_use]
pub fn shell_words(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => found.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    Some(found)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(list: &str) -> Result<String, String> {
        let call = parse(&Text::new(list, None)).map_err(|error| error.text)?;
        let arguments: Vec<String> = call.arguments.iter().map(|(k, v)| format!("{k}={}", v.as_str())).collect();
        Ok(format!("{}|{}", call.name.as_str(), arguments.join("|")))
    }

    #[test]
    fn lists_are_taken_apart_as_fail2ban_does() {
        for (list, expected) in [
            ("a", "a|"),
            ("a]", "a]|"),
            ("a [x=1]", "a |x=1"),
            ("a[x=1, y=\"2, 3\"][z='4'] ", "a|x=1|y=2, 3|z=4"),
            ("a[x=1] [y=2]", "a|x=1|y=2"),
            ("a[x=1,]", "a|x=1"),
            ("a[x=]", "a|x="),
            ("a[]", "a|"),
            ("a[y= \" 2 \"]", "a|y=\" 2 \""),
            ("a[x=1,x=2]", "a|x=2"),
            ("a[x=\"1]", "a|x=\"1"),
            ("a[b?family=inet6=c, b=d]", "a|b?family=inet6=c|b=d"),
        ] {
            assert_eq!(shown(list).unwrap(), expected, "{list}");
        }
        for (list, expected) in [
            ("", "unexpected option syntax"),
            ("a[x=1]junk", "unexpected option syntax"),
            ("a[x=1", "unexpected option syntax"),
            ("a[b c]", "expected option, wrong syntax at 0: b c"),
            ("a[x=1, b c]", "expected option, wrong syntax at 4:  b c"),
            ("a[x=\"1\"y]", "unexpected syntax at 5 after option 'x': y"),
            ("a[x=1]y[b=2]", "unexpected syntax at 3 after option 'x': ]y[b=2"),
        ] {
            assert_eq!(shown(list).unwrap_err(), expected, "{list}");
        }
    }

    #[test]
    fn several_actions_are_separated_by_blanks_outside_of_brackets() {
        let tokens = |list: &str| -> Vec<String> {
            split(&Text::new(list, None)).iter().map(|t| t.as_str().to_owned()).collect()
        };
        assert_eq!(tokens("a[x=1] b[y=2]\n c"), ["a[x=1]", "b[y=2]", "c"]);
        assert_eq!(tokens("a[x=\"1 ] 2\",\n y=3] [z=4] b"), ["a[x=\"1 ] 2\",\n y=3] [z=4]", "b"]);
        assert_eq!(tokens("a[x y] b"), ["a[x", "y]", "b"]);
        assert_eq!(tokens("a, b"), ["a,", "b"]);
    }

    #[test]
    fn whole_numbers_are_read_as_python_reads_them() {
        assert_eq!(integer(" -1_000 "), Some(-1000));
        for text in ["", "1__0", "_1", "1.0", "0x1", "1e3", "99999999999999999999"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_list_is_too_strange(list in "[\\[\\]=,\"' \\na-c?é.]{0,60}") {
            let _ = shown(&list);
            let joined: usize = split(&Text::new(list.clone(), None)).iter().map(Text::len).sum();
            prop_assert!(joined <= list.len());
            let _ = shell_words(&list);
        }
    }
}
