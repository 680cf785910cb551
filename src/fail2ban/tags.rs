//! Tags in regular expressions: `<HOST>`, `<F-USER>…</F-USER>`, `<SKIPLINES>` become groups.
//!
//! Names decide what a group means later, so they are part of the contract. The text grows
//! here; [`Expanded::origin`] leads from a place in the result back to what the administrator
//! wrote, so that a message can point at it.

use crate::config::UseDns;

/// What the expansion depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// With `no`, `<HOST>` does not match names.
    pub usedns: UseDns,
    /// Fail2Ban 1.1's IPv6 tag, which accepts `::` alone; 1.0's does not.
    pub bare_colons: bool,
}

/// A text with its tags replaced.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// The regular expression, in Python's dialect.
    pub text: String,
    /// Byte offsets (in the result, in the source) where a new piece begins, and whether the
    /// piece is a tag's replacement.
    pieces: Vec<(usize, usize, bool)>,
}

impl Expanded {
    /// The byte offset in the source that a byte offset of the result comes from; the start
    /// of the tag for a place inside a replacement.
    #[must_use]
    pub fn origin(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.0 <= offset);
        match after.checked_sub(1).map(|index| self.pieces[index]) {
            Some((_, source, true)) => source,
            Some((result, source, false)) => source + (offset - result),
            None => offset,
        }
    }
}

/// Replaces all tags; what is no tag stays as it is.
#[must_use]
pub fn expand(source: &str, options: Options) -> Expanded {
    let mut expanded = Expanded { text: String::with_capacity(source.len() + 160), pieces: Vec::new() };
    let mut opened: Vec<&str> = Vec::new();
    let (mut at, mut skips) = (0, 0);
    while at < source.len() {
        let rest = &source[at..];
        let tag = rest.strip_prefix('<').and_then(|inner| inner.split_once('>')).map(|(name, _)| name);
        let replacement = tag.and_then(|tag| replacement(tag, options, &mut opened, &mut skips));
        let scoped = scoped_flag(rest);
        match (tag, replacement, scoped) {
            (Some(tag), Some(text), _) => {
                expanded.pieces.push((expanded.text.len(), at, true));
                expanded.text.push_str(&text);
                at += tag.len() + 2;
                expanded.pieces.push((expanded.text.len(), at, false));
            }
            (_, _, Some((length, flags))) => {
                expanded.pieces.push((expanded.text.len(), at, true));
                expanded.text.push_str(&format!("(?{flags}:"));
                at += length;
                expanded.pieces.push((expanded.text.len(), at, false));
            }
            _ => {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                expanded.text.push_str(&rest[..next]);
                at += next;
                // An escaped parenthesis opens no group.
                if rest.starts_with('\\') {
                    let escaped = source[at..].chars().next().map_or(0, char::len_utf8);
                    if source[at..].starts_with(['\\', '(']) {
                        expanded.text.push_str(&source[at..at + escaped]);
                        at += escaped;
                    }
                }
            }
        }
    }
    expanded
}

/// What stands for the tag of this name (without its angle brackets), if it is one.
fn replacement<'a>(tag: &'a str, options: Options, opened: &mut Vec<&'a str>, skips: &mut u32) -> Option<String> {
    let name = |name: &str| match name {
        "ID" => "fid".to_owned(),
        "PORT" => "fport".to_owned(),
        other => other.to_lowercase(),
    };
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_-".contains(&b))
    };
    if let Some(closed) = tag.strip_prefix("/F-") {
        return opened.contains(&closed).then(|| ")".to_owned());
    }
    let (short, empty) = match tag.strip_prefix("F-") {
        Some(rest) => match rest.strip_suffix('/') {
            Some(short) => (short, true),
            None if is_name(rest) => {
                opened.push(rest);
                return Some(format!("(?P<{}>", name(rest)));
            }
            None => return None,
        },
        None => (tag, false),
    };
    match short {
        "HOST" if !empty && options.usedns == UseDns::No => Some(address(options, "")),
        "HOST" if !empty => Some(format!("(?:{}|{DNS})", address(options, ""))),
        "SKIPLINES" if !empty => {
            *skips += 1;
            Some(format!(r"\n(?P<skiplines{}>(?:.*\n)*?)", *skips - 1))
        }
        "IP4" => Some(IP4.to_owned()),
        "IP6" => Some(ip6(options)),
        "ADDR" => Some(address(options, "")),
        "DNS" => Some(DNS.to_owned()),
        "CIDR" => Some(CIDR.to_owned()),
        "SUBNET" => Some(address(options, &format!("(?:/{CIDR})?"))),
        "ID" if empty => Some(r"(?P<fid>\S+)".to_owned()),
        "PORT" if empty => Some(r"(?P<fport>\w+)".to_owned()),
        _ => None,
    }
}

const IP4: &str = r"(?:::f{4,6}:)?(?P<ip4>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})";
const DNS: &str = r"(?P<dns>[-.^\w]*\w)";
const CIDR: &str = r"(?P<cidr>\d+)";

fn ip6(options: Options) -> String {
    let colons = if options.bare_colons { ":" } else { "::" };
    format!("(?P<ip6>(?:[0-9A-Fa-f]{{1,4}}:{{1,2}}|{colons}){{1,7}}(?:[0-9A-Fa-f]{{1,4}}|:))")
}

/// An address of either family, the brackets around it independent of each other.
fn address(options: Options, before_bracket: &str) -> String {
    format!(r"(?:\[?(?:{IP4}|{}){before_bracket}\]?)", ip6(options))
}

/// `((?i)` and `(?:(?i)` begin a group that has a flag of its own: their length and flags.
///
/// Python takes a flag only at the very start or with a scope; filters have it inside.
fn scoped_flag(text: &str) -> Option<(usize, &str)> {
    let inner = text.strip_prefix("(?:").or_else(|| text.strip_prefix('('))?;
    let (flags, _) = inner.strip_prefix("(?")?.split_once(')')?;
    let valid = !flags.is_empty() && flags.bytes().all(|b| b.is_ascii_lowercase());
    valid.then(|| (text.len() - inner.len() + flags.len() + 3, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        expand(source, Options::default()).text
    }

    #[test]
    fn tags_become_named_groups_and_other_texts_stay() {
        for (source, expected) in [
            ("<F-ID/> <F-PORT/>", r"(?P<fid>\S+) (?P<fport>\w+)"),
            ("<F-ID>x</F-ID><F-PORT>y</F-PORT>", "(?P<fid>x)(?P<fport>y)"),
            ("<F-X1_>a|b</F-X1_>", "(?P<x1_>a|b)"),
            ("</F-USER><F-USER>a</F-USER>", "</F-USER>(?P<user>a)"),
            ("<F-USER>a</F-ID>", "(?P<user>a</F-ID>"),
            ("<F-USER>a</F-USER></F-USER>", "(?P<user>a))"),
            ("<F-USER/> <F-foo> <host> <HOST", "<F-USER/> <F-foo> <host> <HOST"),
            ("<F-HOST/> <F-SKIPLINES/> <F-FID/>", "<F-HOST/> <F-SKIPLINES/> <F-FID/>"),
            ("((?i)x)y", "(?i:x)y"),
            ("(?:(?is)x|y)", "(?is:x|y)"),
            ("((?i:x))", "((?i:x))"),
            ("(?P<z>(?i)x)", "(?P<z>(?i)x)"),
            (r"\((?i)x", r"\((?i)x"),
        ] {
            assert_eq!(text(source), expected, "{source}");
        }
        assert_eq!(text("<SKIPLINES><SKIPLINES>").matches("(?P<skiplines").count(), 2);
        assert!(text("<SKIPLINES>a<SKIPLINES>").contains("(?P<skiplines1>"));
    }

    #[test]
    fn the_host_tag_holds_names_only_where_names_are_looked_up() {
        assert!(text("<HOST>").contains("(?P<dns>"));
        let no = Options { usedns: UseDns::No, ..Options::default() };
        assert!(!expand("<HOST>", no).text.contains("(?P<dns>"));
    }

    #[test]
    fn places_lead_back_to_what_was_written() {
        let expanded = expand("ab <HOST> c(", Options::default());
        let paren = expanded.text.len() - 1;
        assert_eq!(expanded.origin(1), 1);
        assert_eq!(expanded.origin(10), 3);
        assert_eq!(expanded.origin(paren), 11);
    }
}
