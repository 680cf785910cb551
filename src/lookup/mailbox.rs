//! Mail addresses that strangers say are the right ones.
//!
//! They come from DNS records and registries' answers, and go into mail headers and the log. Only
//! plain ones are taken: what RFC 5321 allows beyond them (quotes, comments, `$(id)@…`) no abuse desk has.

use std::fmt;

/// Longest address, in bytes (RFC 5321, 4.5.3.1.3), and longest part before the `@`.
const LONGEST: usize = 254;
const LONGEST_LOCAL: usize = 64;

/// Names of those at a registry who keep the books of networks and run none of them.
const CLERKS: [&str; 7] =
    ["hostmaster", "helpdesk", "search-apnic-not-arin", "ripe-dbm", "ncc", "info", "whois-contact"];

/// Registries. Each has networks of its own too, and somebody who runs those.
const REGISTRIES: [&str; 8] =
    ["nic.ad.jp", "apnic.net", "ripe.net", "arin.net", "lacnic.net", "afrinic.net", "iana.org", "registro.br"];

/// Names that stand for "there is none".
const MARKERS: [&str; 6] = ["removed", "redacted", "unread", "bitbucket", "no-email", "noemail"];

/// A mail address of plain form: ASCII, a dotted domain, nothing that a header, a shell or a terminal
/// would take for something else, and not beginning with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox(String);

/// Why an address is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// No address, or none of plain form.
    #[error("not a plain mail address")]
    Syntax,
    /// A domain that no other machine can deliver to.
    #[error("its domain is not one of the Internet")]
    Local,
    /// A word in place of an address that was taken away.
    #[error("a marker, no mailbox")]
    Marker,
    /// The registry, which runs none of these networks.
    #[error("the registry's, not the operator's")]
    Registry,
    /// The settings say so.
    #[error("left out by the settings")]
    Settings,
}

impl Mailbox {
    /// Reads one address.
    ///
    /// # Errors
    /// If it is not of plain form.
    pub fn parse(text: &str) -> Result<Mailbox, Unusable> {
        let (local, domain) = text.rsplit_once('@').ok_or(Unusable::Syntax)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+=-'&~".contains(&byte);
        let sound = text.len() <= LONGEST
            && (1..=LONGEST_LOCAL).contains(&local.len())
            && local.bytes().all(is_plain)
            && !local.starts_with(['-', '.'])
            && !local.ends_with('.')
            && !local.contains("..");
        if !sound {
            return Err(Unusable::Syntax);
        }
        let labels: Vec<&str> = domain.split('.').collect();
        let label = |label: &&str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !labels.iter().all(label) {
            return Err(Unusable::Syntax);
        }
        let top = labels.last().copied().unwrap_or("");
        if labels.len() < 2 || top.bytes().all(|byte| byte.is_ascii_digit()) || LOCAL.contains(&&*top.to_lowercase()) {
            return Err(Unusable::Local);
        }
        Ok(Mailbox(format!("{local}@{}", domain.to_ascii_lowercase())))
    }

    /// The address, if it is that of somebody who could do something; `left_out` are addresses of the
    /// administrator's choice, whole ones or `@domain`.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn usable(text: &str, left_out: &[String]) -> Result<Mailbox, Unusable> {
        let mailbox = Mailbox::parse(text)?;
        let local = mailbox.local().to_ascii_lowercase();
        if MARKERS.contains(&&*local) {
            return Err(Unusable::Marker);
        }
        let registry = REGISTRIES.iter().any(|registry| mailbox.is_within(registry));
        // JPNIC asks not to be written to at all
        if registry && CLERKS.contains(&&*local) || mailbox.is_within("nic.ad.jp") {
            return Err(Unusable::Registry);
        }
        let named = |rule: &String| match rule.strip_prefix('@') {
            Some(domain) => mailbox.is_within(domain),
            None => mailbox.0.eq_ignore_ascii_case(rule),
        };
        if left_out.iter().any(named) { Err(Unusable::Settings) } else { Ok(mailbox) }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    /// The part behind it, in lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }

    fn is_within(&self, domain: &str) -> bool {
        let own = self.domain();
        own.len() >= domain.len()
            && own[own.len() - domain.len()..].eq_ignore_ascii_case(domain)
            && (own.len() == domain.len() || own.as_bytes()[own.len() - domain.len() - 1] == b'.')
    }
}

/// Top-level names that never are on the Internet (RFC 6761, 6762, 9476).
const LOCAL: [&str; 6] = ["localhost", "local", "invalid", "internal", "onion", "alt"];

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken() {
        for good in
            ["abuse@net-a.example", "a.b+c@x.y.co.jp", "Network-Abuse@GOOGLE.com", "o'neill@xn--bcher-kva.example"]
        {
            assert!(Mailbox::parse(good).is_ok(), "{good}");
        }
        assert_eq!(Mailbox::parse("A@EXAMPLE.Net").as_ref().map(Mailbox::as_str), Ok("A@example.net"));
        let long = format!("{}@x.example", "a".repeat(65));
        for bad in [
            "",
            "@",
            "a@",
            "@b.example",
            "-oQ/x@evil.example",
            "$(id)@evil.example",
            "a b@c.example",
            "a@b@c.example",
            "a@b.example\nBcc: x@y.example",
            "a@b.example\u{8}",
            "\"a\"@b.example",
            "a@[192.0.2.1]",
            "a@b..example",
            "a@-b.example",
            "é@b.example",
            "a@é.example",
            "a..b@c.example",
            ".a@b.example",
            &long,
            "Abusix ContactDB Test point",
            "a@b.example;c@d.example",
            "<a@b.example>",
            "a@b.example\0",
        ] {
            assert_eq!(Mailbox::parse(bad), Err(Unusable::Syntax), "{bad:?}");
        }
        for nowhere in ["root@localhost", "a@host.local", "a@192.0.2.1", "x@y.invalid"] {
            assert_eq!(Mailbox::parse(nowhere), Err(Unusable::Local), "{nowhere}");
        }
    }

    #[test]
    fn registries_and_markers_are_nobody_who_could_help() {
        let rules = ["noc@a.example".to_owned(), "@b.example".to_owned()];
        for (address, expected) in [
            ("hostmaster@nic.ad.jp", Some(Unusable::Registry)),
            ("abuse@nic.ad.jp", Some(Unusable::Registry)),
            ("helpdesk@apnic.net", Some(Unusable::Registry)),
            ("abuse@ripe.net", None),
            ("ipadmin@lacnic.net", None),
            ("abuse@notripe.net", None),
            ("removed@lacnic.net", Some(Unusable::Marker)),
            ("NOC@A.example", Some(Unusable::Settings)),
            ("abuse@a.example", None),
            ("abuse@mail.b.example", Some(Unusable::Settings)),
        ] {
            assert_eq!(Mailbox::usable(address, &rules).err(), expected, "{address}");
        }
    }
}
