//! What ought to stand in the table, as a value: a function of the jails alone.
//!
//! Jails overlap (postfix and dovecot both on 465), and a key of a verdict map has one target
//! only. So the port space is cut at every jail's borders, and each segment goes to a chain
//! that looks the source up in the sets of all jails that cover it. Segments with the same
//! jails share one chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::names::{hash, plain};
use super::super::{Scope, Verdict};

/// Longest part of a set's name that comes from the jail.
const LONGEST_NAME: usize = 100;
/// Longest name of a chain; those that list more jails end in a hash.
const LONGEST_CHAIN: usize = 120;

/// A set of banned prefixes of one length: hashed, so that each costs one look-up, no matter
/// how many, and networks within networks never collide as they would in an interval set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// IPv6, else IPv4.
    pub v6: bool,
    /// Prefix length.
    pub length: u8,
}

impl Class {
    /// Hosts of both families.
    pub const HOSTS: [Class; 2] = [Class { v6: false, length: 32 }, Class { v6: true, length: 128 }];

    /// Whether the prefixes are single addresses.
    pub fn is_hosts(self) -> bool {
        Class::HOSTS.contains(&self)
    }

    /// Bytes of an address.
    pub fn bytes(self) -> usize {
        if self.v6 { 16 } else { 4 }
    }
}

/// A jail in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jail {
    /// What its bans cover.
    pub scope: Scope,
    /// Its sets: those of hosts always, others from the first ban of that length on.
    pub classes: BTreeSet<Class>,
}

/// The name of a jail's set. The dot is never part of a jail's plain name, so no two meet.
pub fn set_name(jail: &str, class: Class) -> String {
    let family = if class.v6 { 6 } else { 4 };
    let base = plain(jail, LONGEST_NAME);
    if class.is_hosts() { format!("{base}{family}") } else { format!("{base}{family}.{}", class.length) }
}

/// A look-up of the source address and what follows if it is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// Where.
    pub set: String,
    /// Of which prefixes.
    pub class: Class,
    /// What then.
    pub verdict: Verdict,
}

/// Chains, map and sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets of bans.
    pub sets: BTreeMap<String, Class>,
    /// Look-ups for every packet.
    pub everywhere: Vec<Lookup>,
    /// Chains of port segments.
    pub chains: BTreeMap<String, Vec<Lookup>>,
    /// Protocol, first and last port of each segment, and its chain.
    pub segments: BTreeMap<(u8, u16, u16), String>,
}

impl Ruleset {
    /// What these jails need.
    pub fn of(jails: &BTreeMap<Arc<str>, Jail>) -> Ruleset {
        let mut ruleset = Ruleset::default();
        let mut protocols: BTreeMap<u8, Vec<(&str, &Jail)>> = BTreeMap::new();
        for (name, jail) in jails {
            for class in &jail.classes {
                ruleset.sets.insert(set_name(name, *class), *class);
            }
            if jail.scope.ports.is_empty() {
                ruleset.everywhere.extend(lookups(name, jail));
            }
            for protocol in jail.scope.protocols.iter().collect::<BTreeSet<_>>() {
                protocols.entry(*protocol).or_default().push((name, jail));
            }
        }
        for (protocol, jails) in protocols {
            for (first, last, covering) in segments(&jails) {
                let chain = chain_name(&covering);
                ruleset
                    .chains
                    .entry(chain.clone())
                    .or_insert_with(|| covering.iter().flat_map(|(name, jail)| lookups(name, jail)).collect());
                ruleset.segments.insert((protocol, first, last), chain);
            }
        }
        ruleset
    }
}

fn lookups(name: &str, jail: &Jail) -> Vec<Lookup> {
    let look = |class: &Class| Lookup { set: set_name(name, *class), class: *class, verdict: jail.scope.verdict };
    jail.classes.iter().map(look).collect()
}

/// First and last port, and the jails that cover them all.
type Segment<'a> = (u16, u16, Vec<(&'a str, &'a Jail)>);

/// Cuts the ports of one protocol at every border and says which jails cover each piece.
fn segments<'a>(jails: &[(&'a str, &'a Jail)]) -> Vec<Segment<'a>> {
    let mut borders = BTreeSet::new();
    for (_, jail) in jails {
        for (first, last) in &jail.scope.ports {
            borders.extend([u32::from(*first.min(last)), u32::from(*last.max(first)) + 1]);
        }
    }
    let borders: Vec<u32> = borders.into_iter().collect();
    let mut found: Vec<Segment<'_>> = Vec::new();
    for pair in borders.windows(2) {
        let (first, last) = (pair[0] as u16, (pair[1] - 1) as u16);
        let covers = |jail: &Jail| jail.scope.ports.iter().any(|(a, b)| *a.min(b) <= first && last <= *a.max(b));
        let covering: Vec<_> = jails.iter().filter(|(_, jail)| covers(jail)).copied().collect();
        if covering.is_empty() {
            continue;
        }
        let same = |others: &[(&str, &Jail)]| others.iter().map(|o| o.0).eq(covering.iter().map(|c| c.0));
        match found.last_mut() {
            // Two ranges of one jail that touch are one segment.
            Some(before) if u32::from(before.1) + 1 == u32::from(first) && same(&before.2) => before.1 = last,
            _ => found.push((first, last, covering)),
        }
    }
    found
}

fn chain_name(jails: &[(&str, &Jail)]) -> String {
    let all = jails.iter().map(|(name, _)| plain(name, LONGEST_NAME)).collect::<Vec<_>>().join("/");
    if all.len() <= LONGEST_CHAIN {
        return format!("on-{all}");
    }
    format!("on-{}.{:08x}", &all[..LONGEST_CHAIN], hash(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jail(ports: &[(u16, u16)]) -> Jail {
        let scope = Scope { ports: ports.to_vec(), protocols: vec![6], verdict: Verdict::Drop };
        Jail { scope, classes: Class::HOSTS.into() }
    }

    #[test]
    fn overlapping_jails_meet_in_segments_of_their_own() {
        let jails = BTreeMap::from([
            ("dovecot".into(), jail(&[(110, 110), (143, 143), (465, 465), (993, 993)])),
            ("postfix".into(), jail(&[(25, 25), (465, 465), (587, 587)])),
            ("high".into(), jail(&[(500, 65535)])),
            ("recidive".into(), jail(&[])),
        ]);
        let ruleset = Ruleset::of(&jails);
        let shown: Vec<String> =
            ruleset.segments.iter().map(|((p, a, b), chain)| format!("{p} {a}-{b} {chain}")).collect();
        assert_eq!(
            shown,
            [
                "6 25-25 on-postfix",
                "6 110-110 on-dovecot",
                "6 143-143 on-dovecot",
                "6 465-465 on-dovecot/postfix",
                "6 500-586 on-high",
                "6 587-587 on-high/postfix",
                "6 588-992 on-high",
                "6 993-993 on-dovecot/high",
                "6 994-65535 on-high",
            ]
        );
        assert_eq!(ruleset.everywhere.len(), 2);
        assert_eq!(ruleset.chains["on-dovecot/postfix"].len(), 4);
        assert_eq!(ruleset.sets.len(), 8);
    }
}
