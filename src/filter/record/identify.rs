//! Who a match is about: an address, a network, a name to be looked up, or any other text.

use std::sync::Arc;

use super::session::Groups;
use crate::address::{Id, Prefix};
use crate::config::UseDns;
use crate::filter::{Datum, Who};

/// What the identifying groups of a match come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// Somebody; with the address, where the identifier is something else.
    Known(Who, Option<Id>),
    /// A host name where names are not looked up, or a number that a resolver would take for an
    /// address (`1.2.3`): the match counts for nobody.
    Nobody,
    /// No group that identifies is set.
    Missing,
}

fn text<'a>(groups: &'a Groups, name: &str) -> Option<&'a Arc<str>> {
    groups.iter().find_map(|(known, value)| match value {
        Some(Datum::Text(text)) if &**known == name => Some(text),
        _ => None,
    })
}

/// Reads the groups `ip4`, `ip6`, `cidr`, `dns` and `fid`.
#[must_use]
pub fn identify(groups: &Groups, usedns: UseDns) -> Identity {
    let fid = free(groups);
    let address = text(groups, "ip4").or_else(|| text(groups, "ip6"));
    let found = match (address, text(groups, "dns")) {
        // what is no address after all (`192.030.0.6`) counts as the text it is; it is never banned
        (Some(address), _) => network(address, text(groups, "cidr")),
        (None, Some(name)) => match (Id::parse(name), usedns) {
            (id @ Id::Prefix(_), _) => return Identity::Known(Who::Id(id), None),
            (_, UseDns::No) => return Identity::Nobody,
            (_, UseDns::Yes | UseDns::Warn) if is_numeric(name) => return Identity::Nobody,
            (_, UseDns::Yes | UseDns::Warn) => return Identity::Known(Who::Name(name.clone()), None),
            (id, UseDns::Raw) => id,
        },
        (None, None) => match fid {
            Some(fid) => return Identity::Known(Who::Id(fid), None),
            None => return Identity::Missing,
        },
    };
    match fid {
        Some(id) if id != found => Identity::Known(Who::Id(id), Some(found)),
        _ => Identity::Known(Who::Id(found), None),
    }
}

/// What `<F-ID>` captured. Several parts (`<F-TUPLE_ID>`) make one identifier: they are written
/// as Fail2Ban writes them, because that is what its database and the administrator know.
fn free(groups: &Groups) -> Option<Id> {
    let (_, value) = groups.iter().find(|(name, _)| &**name == "fid")?;
    match value.as_ref()? {
        Datum::Text(text) => Some(Id::parse(text)),
        Datum::Tuple(parts) => {
            let parts: Vec<String> =
                parts.iter().map(|part| part.as_deref().map_or("None".to_owned(), quoted)).collect();
            Some(Id::Text(format!("({})", parts.join(", ")).into()))
        }
        Datum::Set(_) => None,
    }
}

/// In single quotes, or in double ones if that saves an escape.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Whether a resolver would take a name for a number: `1.2.3` for 1.2.0.3, `0x7f.1` for 127.0.0.1.
/// No host name ends in a label of digits.
fn is_numeric(name: &str) -> bool {
    let label = name.rsplit('.').next().unwrap_or(name);
    let digits = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match digits {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn network(address: &str, cidr: Option<&Arc<str>>) -> Id {
    let id = Id::parse(address);
    let Some(length) = cidr.and_then(|text| text.parse::<u8>().ok()) else { return id };
    // A length that the family does not have means the host itself.
    id.prefix().and_then(|host| Prefix::new(host.address(), length)).map_or(id, Id::Prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(groups: &[(&str, &str)], usedns: UseDns) -> Identity {
        let groups =
            groups.iter().map(|(name, text)| (Arc::from(*name), Some(Datum::Text(Arc::from(*text))))).collect();
        identify(&groups, usedns)
    }

    fn known(id: &str, address: Option<&str>) -> Identity {
        Identity::Known(Who::Id(Id::parse(id)), address.map(Id::parse))
    }

    #[test]
    fn addresses_come_before_names_and_a_free_identifier_before_both() {
        let raw = UseDns::Raw;
        assert_eq!(who(&[("ip4", "192.0.2.7"), ("dns", "x")], raw), known("192.0.2.7", None));
        assert_eq!(who(&[("ip4", "192.0.2.7"), ("cidr", "24")], raw), known("192.0.2.0/24", None));
        assert_eq!(who(&[("ip4", "192.0.2.7"), ("cidr", "33")], raw), known("192.0.2.7", None));
        assert_eq!(who(&[("fid", "bob"), ("ip4", "192.0.2.7")], raw), known("bob", Some("192.0.2.7")));
        assert_eq!(who(&[("fid", "192.0.2.7"), ("ip4", "192.0.2.7")], raw), known("192.0.2.7", None));
        assert_eq!(who(&[("fid", "bob"), ("dns", "host")], raw), known("bob", Some("host")));
        assert_eq!(who(&[("user", "bob")], raw), Identity::Missing);
    }

    #[test]
    fn what_only_looks_like_an_address_is_a_text_and_no_number_is_looked_up() {
        for (group, text) in [("ip4", "300.1.1.1"), ("ip4", "127.000.000.001"), ("ip6", "12:34:56")] {
            assert_eq!(who(&[(group, text)], UseDns::Raw), Identity::Known(Who::Id(Id::Text(text.into())), None));
        }
        for name in ["1.2.3", "0x7f.1", "host.0X1f", "017700000001"] {
            assert_eq!(who(&[("dns", name)], UseDns::Warn), Identity::Nobody, "{name}");
        }
    }

    #[test]
    fn parts_make_one_identifier_that_cannot_be_mistaken_for_another() {
        let part = |text: &str| Some(Arc::from(text));
        let tuple = |parts: Vec<Option<Arc<str>>>| vec![(Arc::from("fid"), Some(Datum::Tuple(parts)))];
        for (parts, expected) in [
            (vec![part("192.0.2.1"), part("bob")], "('192.0.2.1', 'bob')"),
            (vec![part("a', 'b"), None], r#"("a', 'b", None)"#),
            (vec![part("\"'\n\u{1}\\"), part("é")], r#"('"\'\n\x01\\', 'é')"#),
        ] {
            assert_eq!(identify(&tuple(parts), UseDns::No), known(expected, None));
        }
    }

    #[test]
    fn names_are_looked_up_or_count_for_nobody() {
        assert_eq!(who(&[("dns", "host")], UseDns::Warn), Identity::Known(Who::Name("host".into()), None));
        assert_eq!(who(&[("dns", "host")], UseDns::No), Identity::Nobody);
        assert_eq!(who(&[("dns", "192.0.2.3")], UseDns::No), known("192.0.2.3", None));
    }
}
