//! Recognises unmodified stock actions, so that the native firewall can serve them.
//!
//! What is known of them is a hash over the names of their properties and their commands, with
//! the parameters that a jail sets taken out. One changed character gives another hash, and the
//! action runs as the commands it consists of. Nothing of their text is kept here.

use std::fmt::Write as _;

use sha1::{Digest, Sha1};

/// What a recognised action does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    /// Ports as the action's parameter names them (`ssh`, `25,465:587`); `None` for all.
    pub ports: Option<String>,
    /// Protocols as the parameter names them (`tcp`, `tcp,udp`, `all`).
    pub protocol: String,
    /// What happens to a packet, as the parameter says (`reject`, `DROP` …); empty for the default.
    pub blocktype: String,
}

/// How an action names what it covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Parameter `port`.
    Ports,
    /// All ports and protocols.
    All,
}

/// Parameters that jails set and that keep their meaning natively.
const PARAMETERS: &[&str] = &["name", "port", "protocol", "chain", "blocktype", "blocktype?family=inet6"];
/// Properties that make no difference to what the action does.
const NEUTRAL: &[&str] = &["actname", "bantime"];

/// SHA-1 of [`canonical`] for the stock actions of 1.0.2 as Debian ships them.
const KNOWN: &[(&str, Kind)] = &[
    ("43b678843e358f325409e4e9e86f2cd4f8450af9", Kind::Ports), // iptables
    ("ec4f72c51feb334adc3d51b89aaee2ebe4890d57", Kind::Ports), // iptables-multiport
    ("0d864ac7ea2aded36207770312edec3ace5afd95", Kind::All),   // iptables-allports
    ("eb13d8a3e66f86660d743d9e48ddc18c0db1e855", Kind::Ports), // iptables-new
    ("24ca525988540c8f0a7742d747cbdef4683c57da", Kind::Ports), // iptables-ipset
    ("7997094ad794aa4a47bae545396df0b775b09f50", Kind::Ports), // iptables-ipset-proto6
    ("8661dfbee00cd038ff62d316fde4e9d9fb6bfecc", Kind::All),   // iptables-ipset-proto6-allports
    ("caae31921ff90fa3e2b1a62a2a8790b17cd383d8", Kind::Ports), // nftables, nftables-multiport
    ("c8efa313fe191802de9b7268292575c1333f4b7a", Kind::All),   // nftables-allports
    ("20d897c48890bd22dde41b8d85b0ef0af1b3fdae", Kind::Ports), // firewallcmd-ipset
];

/// Whether the properties are those of a stock action that the native firewall can serve, and what it would do.
#[must_use]
pub fn recognise<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Native> {
    let properties: Vec<(&str, &str)> = properties.collect();
    let get = |name: &str| properties.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    let hash = hash(&canonical(&properties));
    let (_, kind) = KNOWN.iter().find(|(known, _)| *known == hash)?;
    // in front of all routing we see what any of these chains would see
    if !get("chain").is_none_or(|chain| ["<known/chain>", "INPUT", "FORWARD", "DOCKER-USER"].contains(&chain)) {
        return None;
    }
    Some(Native {
        ports: (*kind == Kind::Ports).then(|| get("port").unwrap_or("0:65535").to_owned()),
        protocol: get("protocol").unwrap_or("tcp").to_owned(),
        blocktype: get("blocktype").unwrap_or_default().to_owned(),
    })
}

/// The hash of a canonical form, in hex.
#[must_use]
pub fn hash(canonical: &str) -> String {
    Sha1::digest(canonical.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The properties of an action with the values of [`PARAMETERS`] replaced by their names.
#[must_use]
pub fn canonical(properties: &[(&str, &str)]) -> String {
    let mut values: Vec<(&str, &str)> =
        properties.iter().filter(|(name, value)| PARAMETERS.contains(name) && !value.is_empty()).copied().collect();
    // the longest first, so that no value is torn by one that it contains
    values.sort_by_key(|(name, value)| (std::cmp::Reverse(value.len()), *name));
    let mut lines: Vec<String> = properties
        .iter()
        .filter(|(name, _)| !PARAMETERS.contains(name) && !NEUTRAL.contains(name))
        .map(|(name, value)| {
            let mut text = (*value).to_owned();
            if name.starts_with("action") {
                for (parameter, value) in &values {
                    text = replace_words(&text, value, &format!("\u{1}{parameter}\u{1}"));
                }
            }
            format!("{name}={text}\u{2}")
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Replaces a value where it stands as a word of its own.
fn replace_words(text: &str, value: &str, by: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '\u{1}');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(value) {
        let left = rest[..at].chars().next_back().or(before);
        let after = &rest[at + value.len()..];
        out.push_str(&rest[..at]);
        out.push_str(if is_word(left) || is_word(after.chars().next()) { value } else { by });
        before = value.chars().next_back();
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_do_not_change_the_canonical_form_and_anything_else_does() {
        let of = |name: &str, port: &str, ban: &str| {
            let ban = format!("{ban} f2b-{name} --ports {port} <ip>");
            canonical(&[("actionban", &ban), ("name", name), ("port", port), ("actname", "x")])
        };
        assert_eq!(of("sshd", "ssh", "fw add"), of("web-shop", "80,443", "fw add"));
        assert_ne!(of("sshd", "ssh", "fw add"), of("sshd", "ssh", "fw  add"));
    }

    #[test]
    fn a_value_inside_another_word_stays() {
        assert_eq!(replace_words("tcp tcpx x-tcp tcp", "tcp", "P"), "P tcpx x-P P");
    }
}
