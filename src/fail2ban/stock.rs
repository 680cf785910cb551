//! Recognises unmodified stock actions, so that we can do what they do: the firewall, or mails.
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

/// Chains whose packets we see.
const CHAINS: [&str; 6] = ["<known/chain>", "INPUT", "FORWARD", "DOCKER-USER", "INPUT_direct", "FORWARD_direct"];

/// SHA-1 of [`canonical`] for the stock actions of 1.0.2 as Debian ships them.
const KNOWN: &[(&str, Kind)] = &[
    ("4b8486239b6bd295962aa035fd755454bfd22fb2", Kind::Ports), // iptables
    ("fdefda5c5e5fa7fa470c1ad46b08e3fb104a14bb", Kind::Ports), // iptables-multiport
    ("05097c6ce3f5a7a274947ade8594b70cab49d591", Kind::All),   // iptables-allports
    ("01af4cbc70a6c50a68610d330f77a1b22ecb1e95", Kind::Ports), // iptables-new
    ("409c568cccc7df59c3b00090983ee73a2b4373f8", Kind::Ports), // iptables-ipset
    ("67d4a7ce6e3a0c67f1a43d758dce671fc77bb12b", Kind::Ports), // iptables-ipset-proto6
    ("306209d9849416034f9e5057ea103fcc67a3cc5e", Kind::All),   // iptables-ipset-proto6-allports
    ("ade18710a3e44f0ba0fd3c02f6de443716bcc048", Kind::Ports), // nftables, nftables-multiport
    ("a48fd90b70a21f5cc8b0e4e0fe2565e24003a8f6", Kind::All),   // nftables-allports
    ("21aa6ddf5f4a8f3b7b721116219a0b7e54c1d051", Kind::Ports), // firewallcmd-ipset
];

/// Whether the properties are those of a stock action that the native firewall can serve, and what it would do.
#[must_use]
pub fn recognise<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Native> {
    let properties: Vec<(&str, &str)> = properties.collect();
    let get = |name: &str| properties.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    let hash = hash(&canonical(&properties));
    let (_, kind) = KNOWN.iter().find(|(known, _)| *known == hash)?;
    // in front of all routing we see what any of these chains would see; a chain of nftables is
    // the action's own, and its name says nothing
    let covered = |chain: &str| CHAINS.contains(&chain) || get("chain_hook").is_some();
    if !get("chain").is_none_or(covered) {
        return None;
    }
    Some(Native {
        ports: (*kind == Kind::Ports).then(|| get("port").unwrap_or("0:65535").to_owned()),
        protocol: get("protocol").unwrap_or("tcp").to_owned(),
        blocktype: get("blocktype").unwrap_or_default().to_owned(),
    })
}

/// SHA-1 of the stock `smtp.py` of 1.0.2 as Debian ships it.
const MAIL: &[&str] = &["3451577581c782b413d45c6c984edfc8b2c8c08b"];

/// Whether that is the text of a stock `smtp.py`.
#[must_use]
pub fn is_mail(text: &str) -> bool {
    MAIL.contains(&&*hash(text))
}

/// The hash of a text, in hex.
#[must_use]
pub fn hash(text: &str) -> String {
    Sha1::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The properties of an action with the values of [`PARAMETERS`] replaced by their names.
#[must_use]
pub fn canonical(properties: &[(&str, &str)]) -> String {
    let parameters = properties.iter().filter(|(name, value)| PARAMETERS.contains(name) && !value.is_empty());
    let mut values: Vec<(&str, &str)> =
        parameters.map(|(name, value)| (*name, meant(name, value, properties))).collect();
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

/// What a parameter stands for in the commands: jail.conf names the action's own chain without
/// saying which it is.
fn meant<'a>(name: &str, value: &'a str, properties: &[(&str, &str)]) -> &'a str {
    let used = |chain: &&str| {
        let of_commands = properties.iter().filter(|(name, _)| name.starts_with("action"));
        of_commands.into_iter().any(|(_, text)| replace_words(text, chain, "") != *text)
    };
    match (name, value) {
        ("chain", "<known/chain>") => ["INPUT_direct", "f2b-chain", "INPUT"].into_iter().find(used).unwrap_or(value),
        _ => value,
    }
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
