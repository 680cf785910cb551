//! Which actions are carried out without their commands, and what their bans cover.
//!
//! Where the kernel could not be told exactly what the commands would have told it (an unknown
//! port name, a `blocktype` that lets in, an ICMP answer of another kind), the commands run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::action::Properties;
use crate::fail2ban::stock;
use crate::firewall::{Scope, Verdict};

/// All ports.
const EVERY_PORT: (u16, u16) = (0, u16::MAX);
/// Transport protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// Protocols by the names that iptables and nft know without a file.
const PROTOCOLS: [(&str, u8); 13] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("sctp", 132),
    ("udplite", 136),
    ("mh", 135),
];
/// Ports that Fail2Ban's jails name, for machines without `/etc/services`.
const SERVICES: [(&str, u16); 25] = [
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("pop3", 110),
    ("imap2", 143),
    ("imap", 143),
    ("imap3", 220),
    ("https", 443),
    ("smtps", 465),
    ("urd", 465),
    ("submissions", 465),
    ("submission", 587),
    ("ftps-data", 989),
    ("ftps", 990),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("mysql", 3306),
    ("sieve", 4190),
    ("sip", 5060),
    ("sip-tls", 5061),
];

/// Table and chain that the nftables actions of all jails share.
const SHARED: [&str; 2] = ["f2b-table", "f2b-chain"];

/// Who mentions the chains and sets of stock actions: for each name, by how many actions and
/// other commands.
///
/// A stock action mentions its own. If anybody else does, such as an administrator's action that
/// looks into the set, then that set or chain has to be there, and the commands run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mentions(HashMap<String, usize>);

impl Mentions {
    /// What the actions of all jails mention, and other commands of the configuration
    /// (`ignorecommand`).
    pub fn of<'a>(actions: impl Iterator<Item = &'a Properties>, commands: impl Iterator<Item = &'a str>) -> Mentions {
        let mut mentions = Mentions::default();
        for properties in actions {
            let name = properties.get("name").unwrap_or_default();
            let texts: Vec<_> = properties.iter().map(|(_, text)| text.replace("<name>", name)).collect();
            let mut found: HashSet<&str> = texts.iter().flat_map(|text| names(text)).collect();
            // who sets up what all share does not need it from others
            if texts.iter().any(|text| text.contains("add table")) {
                found.retain(|name| !SHARED.contains(name));
            }
            mentions.count(&found);
        }
        commands.for_each(|command| mentions.count(&names(command).collect()));
        mentions
    }

    fn count(&mut self, names: &HashSet<&str>) {
        names.iter().for_each(|name| *self.0.entry((*name).to_owned()).or_default() += 1);
    }

    /// Whether the chain or a set of this stock action is mentioned by others too.
    fn by_others(&self, properties: &Properties) -> bool {
        let name = properties.get("name").unwrap_or_default();
        let uses = |shared: &&&str| properties.iter().any(|(_, text)| names(text).any(|name| name == **shared));
        [format!("f2b-{name}"), format!("f2b-{name}6"), format!("addr-set-{name}"), format!("addr6-set-{name}")]
            .iter()
            .any(|name| self.0.get(name).is_some_and(|count| *count > 1))
            || SHARED.iter().filter(uses).any(|shared| self.0.contains_key(*shared))
    }
}

/// The words of a text that are named as stock actions name their chains and sets.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let like = |word: &&str| ["f2b-", "addr-set-", "addr6-set-"].iter().any(|start| word.starts_with(start));
    text.split(move |c| !of_name(c)).filter(like)
}

/// A place in the firewall and what its bans cover.
pub(super) type Place = (Arc<str>, Scope);

/// For each action of a jail its place in the firewall; without one its commands have to run.
pub(super) fn places<'a>(
    jail: &Arc<str>,
    actions: impl Iterator<Item = (&'a str, Option<&'a Properties>)>,
    stock_too: bool,
    mentions: &Mentions,
) -> Vec<Option<Place>> {
    let mut places = 0;
    let place = |(action, properties): (&str, Option<&Properties>)| {
        let scope = scope(properties?, stock_too, mentions)?;
        places += 1;
        Some((if places == 1 { jail.clone() } else { format!("{jail}/{action}").into() }, scope))
    };
    actions.map(place).collect()
}

/// What a stock or native action covers; `None` if its commands have to run.
///
/// Stock ones are taken over if `stock_too` (`native_actions` in sekimori.toml), and if nothing
/// else needs what their commands would set up.
pub(super) fn scope(properties: &Properties, stock_too: bool, mentions: &Mentions) -> Option<Scope> {
    let native = properties.get("native") == Some("true");
    let (ports, protocol, blocktype) = if native {
        let get = |name: &str, default: &str| properties.get(name).unwrap_or(default).to_owned();
        (Some(get("port", "0:65535")), get("protocol", "tcp"), get("blocktype", "drop"))
    } else {
        let found = stock::recognise(properties.iter()).filter(|_| stock_too)?;
        if mentions.by_others(properties) {
            return None;
        }
        (found.ports, found.protocol, found.blocktype)
    };
    // A `blocktype` that a jail gives holds for IPv6 as well, as whoever wrote it thinks it does;
    // the value of IPv6 alone only has to shut out too.
    let verdict = verdict(&blocktype, properties)?;
    if let Some(other) = properties.get("blocktype?family=inet6") {
        self::verdict(other, properties)?;
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let ports = match ports {
        None => vec![EVERY_PORT],
        Some(text) => words(&text).map(|part| range(part, &services)).collect::<Option<Vec<_>>>()?,
    };
    let every_port = ports.contains(&EVERY_PORT);
    let mut protocols = Vec::new();
    for name in words(&protocol) {
        match name.to_ascii_lowercase().as_str() {
            "all" | "any" | "0" if every_port => {
                return Some(Scope { ports: Vec::new(), protocols: Vec::new(), verdict });
            }
            "all" | "any" if native => protocols.extend(WITH_PORTS),
            name => {
                let known = PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
                let number = known.or_else(|| name.parse().ok())?;
                // Ports of a protocol without ports: what the commands would make of it is theirs.
                if !every_port && !WITH_PORTS.contains(&number) {
                    return None;
                }
                protocols.push(number);
            }
        }
    }
    let ports = if every_port { vec![EVERY_PORT] } else { ports };
    (!ports.is_empty() && !protocols.is_empty()).then_some(Scope { ports, protocols, verdict })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

/// `DROP`, `REJECT --reject-with icmp-port-unreachable`, `reject with tcp reset` …; none for what
/// does not shut out, or answers in another way than ours.
fn verdict(blocktype: &str, properties: &Properties) -> Option<Verdict> {
    let mut text = blocktype.to_ascii_lowercase();
    if let Some(answer) = properties.get("rejecttype") {
        text = text.replace("<rejecttype>", &answer.to_ascii_lowercase());
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(match words[..] {
        ["drop"] => Verdict::Drop,
        ["reject"]
        | ["reject", "--reject-with", "icmp-port-unreachable" | "port-unreach" | "icmp6-port-unreachable"]
        | ["reject", "with", "icmp" | "icmpv6" | "icmpx", "port-unreachable"]
        | ["reject", "with", "icmp" | "icmpv6" | "icmpx", "type", "port-unreachable"] => Verdict::Reject,
        ["reject", "--reject-with", "tcp-reset"] | ["reject", "with", "tcp", "reset"] => Verdict::RejectReset,
        _ => return None,
    })
}

/// `22`, `6000:6010`, `6000-6010`, `1024:`, or names as in `/etc/services`, of which this is the text.
fn range(text: &str, services: &str) -> Option<(u16, u16)> {
    let (low, high) = match text.split_once(':') {
        Some((low, high)) => (
            if low.is_empty() { 0 } else { port(low, services)? },
            if high.is_empty() { u16::MAX } else { port(high, services)? },
        ),
        // A name may have a hyphen, a number has none.
        None => match text.split_once('-').map(|(low, high)| (low.parse(), high.parse())) {
            Some((Ok(low), Ok(high))) => (low, high),
            _ => (port(text, services)?, port(text, services)?),
        },
    };
    (low <= high).then_some((low, high))
}

fn port(text: &str, services: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let listed = services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?);
        (name == text || words.any(|alias| alias == text)).then_some(port.split('/').next()?.parse().ok()?)
    });
    listed.or_else(|| SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::default();
        pairs.iter().for_each(|(name, value)| properties.set(name, (*value).to_owned()));
        properties
    }

    fn native(port: &str, protocol: &str, blocktype: &str) -> Option<Scope> {
        let pairs = [("native", "true"), ("port", port), ("protocol", protocol), ("blocktype", blocktype)];
        scope(&properties(&pairs), false, &Mentions::default())
    }

    #[test]
    fn ports_are_numbers_ranges_and_names_in_any_mixture() {
        let ports = |text: &str| native(text, "tcp", "drop").map(|scope| scope.ports);
        assert_eq!(ports("ssh,2222"), Some(vec![(22, 22), (2222, 2222)]));
        assert_eq!(
            ports(" http, https,\n8000:8010 9000-9001 "),
            Some(vec![(80, 80), (443, 443), (8000, 8010), (9000, 9001)])
        );
        assert_eq!(ports("ftp,ftp-data,ftps,ftps-data"), Some(vec![(21, 21), (20, 20), (990, 990), (989, 989)]));
        assert_eq!(ports("ssh:smtp,:7,60000:"), Some(vec![(22, 25), (0, 7), (60000, 65535)]));
        for all in ["0:65535", "0-65535", "22,0:65535", ":"] {
            assert_eq!(ports(all), Some(vec![EVERY_PORT]), "{all}");
        }
        for none in ["", " , ", "no-such-port", "22,no-such-port", "65536", "10:5", "-1", "22:x", "ssh;reboot", "$(x)"]
        {
            assert_eq!(ports(none), None, "{none}");
        }
    }

    #[test]
    fn names_need_no_file() {
        for (name, number) in SERVICES {
            assert_eq!(range(name, ""), Some((number, number)));
        }
        let services = "# x\nssh 2200/tcp # y\nweb\t8080/tcp www w3\nbad\nworse x/tcp\n";
        assert_eq!(range("ssh", services), Some((2200, 2200)));
        assert_eq!(range("w3:9000", services), Some((8080, 9000)));
        assert_eq!(range("worse", services), None);
    }

    #[test]
    fn protocols_are_those_named_and_all_is_everything() {
        let of =
            |port: &str, protocol: &str| native(port, protocol, "drop").map(|scope| (scope.ports, scope.protocols));
        assert_eq!(of("53", "tcp,udp"), Some((vec![(53, 53)], vec![6, 17])));
        assert_eq!(of("53", "TCP 17"), Some((vec![(53, 53)], vec![6, 17])));
        assert_eq!(of("0:65535", "tcp"), Some((vec![EVERY_PORT], vec![6])));
        assert_eq!(of("0:65535", "all"), Some((vec![], vec![])));
        assert_eq!(of("0:65535", "icmp,ipv6-icmp"), Some((vec![EVERY_PORT], vec![1, 58])));
        assert_eq!(of("53", "all"), Some((vec![(53, 53)], WITH_PORTS.to_vec())));
        assert_eq!(of("53", "icmp"), None);
        assert_eq!(of("53", "xyz"), None);
        assert_eq!(of("53", "256"), None);
        assert_eq!(of("53", ""), None);
    }

    #[test]
    fn block_types_shut_out_or_the_commands_run() {
        let of = |text: &str| native("22", "tcp", text).map(|scope| scope.verdict);
        for text in ["DROP", "drop"] {
            assert_eq!(of(text), Some(Verdict::Drop));
        }
        for text in [
            "REJECT",
            "reject",
            "REJECT --reject-with icmp-port-unreachable",
            "reject with icmpx type port-unreachable",
            "reject with icmp port-unreachable",
        ] {
            assert_eq!(of(text), Some(Verdict::Reject), "{text}");
        }
        for text in ["REJECT --reject-with tcp-reset", "reject with tcp reset"] {
            assert_eq!(of(text), Some(Verdict::RejectReset), "{text}");
        }
        for text in
            ["RETURN", "ACCEPT", "", "LOG", "REJECT --reject-with icmp-host-prohibited", "drop; counter", "dropx"]
        {
            assert_eq!(of(text), None, "{text}");
        }
        let six = |text: &str| {
            let all = [("native", "true"), ("blocktype", "DROP"), ("blocktype?family=inet6", text)];
            scope(&properties(&all), false, &Mentions::default()).map(|scope| scope.verdict)
        };
        assert_eq!(six("REJECT --reject-with icmp6-port-unreachable"), Some(Verdict::Drop));
        assert_eq!(six("RETURN"), None);
    }

    #[test]
    fn names_of_chains_and_sets_are_found_in_other_peoples_commands() {
        let stock = |name: &str| {
            properties(&[
                ("name", name),
                ("actionban", "ipset add <ipmset> <ip>"),
                ("ipmset", "f2b-<name>"),
                ("x", "f2b-<name>6"),
            ])
        };
        let own =
            properties(&[("name", "extra"), ("actionban", "x f2b-web6; nft add element inet t addr-set-mail {}")]);
        let other = properties(&[("name", "mail"), ("addr_set", "addr-set-<name>")]);
        let all = [stock("web"), stock("sshd"), stock("ssh"), other, own];
        let mentions = Mentions::of(all.iter(), ["/usr/bin/test-set f2b-sshd <ip>"].into_iter());
        for (name, mentioned) in [("web", true), ("mail", true), ("sshd", true), ("ssh", false), ("extra", false)] {
            assert_eq!(mentions.by_others(&properties(&[("name", name)])), mentioned, "{name}");
        }
    }
}
