//! What Fail2Ban's stock actions leave in the kernel when it ends badly: found, and taken away.
//!
//! Recognised is only what these actions make, in the form in which they make it: a chain that holds anything else, or a
//! rule of another form that leads to it, is left alone and named. Everything is read and changed by the programs
//! `nft`, `iptables`, `ip6tables` and `ipset`, as the actions themselves do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::address::Prefix;

/// Table and chain of the nftables actions, of family inet.
const TABLE: &str = "f2b-table";
const CHAIN: &str = "f2b-chain";
/// What the names of chains and sets begin with.
const START: &str = "f2b-";
const NFT_SETS: [&str; 2] = ["addr-set-", "addr6-set-"];
/// Most of a program's output that is read.
const MAX_OUTPUT: usize = 256 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// What can be taken away, in an order in which that works.
    pub removable: Vec<Leftover>,
    /// What looks similar and is left alone, and why.
    pub kept: Vec<String>,
    /// Addresses that are shut out by it.
    pub addresses: BTreeSet<Prefix>,
}

/// One thing that can be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// For people.
    pub what: String,
    /// Program, arguments, standard input.
    words: Vec<String>,
    input: String,
}

impl Leftover {
    fn new(what: String, words: &[&str], input: String) -> Leftover {
        Leftover { what, words: words.iter().map(|word| (*word).to_owned()).collect(), input }
    }

    /// Takes it away.
    ///
    /// # Errors
    /// The text says why it is still there.
    pub fn remove(&self) -> Result<(), String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        run(&words, &self.input).map(|_| ())
    }
}

/// Looks for everything. A program that is not there has left nothing.
#[must_use]
pub fn find() -> Leftovers {
    let mut found = Leftovers::default();
    let ask = |words: &[&str]| run(words, "").unwrap_or_default();
    nftables(&ask(&["nft", "-j", "list", "table", "inet", TABLE]), &mut found);
    for (save, restore) in [("iptables-save", "iptables-restore"), ("ip6tables-save", "ip6tables-restore")] {
        iptables(&ask(&[save, "-t", "filter"]), restore, &mut found);
    }
    ipset(&ask(&["ipset", "save"]), &mut found);
    found
}

/// Runs a program; what it prints.
fn run(words: &[&str], input: &str) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("nothing to run")?;
    let failed = |error: std::io::Error| format!("`{program}`: {error}");
    let mut child = super::program(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // they read all of it before they write anything
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        return Err(format!("`{program}`: {said}"));
    }
    if output.stdout.len() > MAX_OUTPUT {
        return Err(format!("`{program}` says too much"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A name that can stand in a command of `nft`.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// From `nft -j list table inet f2b-table`.
fn nftables(json: &str, found: &mut Leftovers) {
    let Ok(document) = serde_json::from_str::<Value>(json) else { return };
    let objects = document["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let name = |object: &Value| object["name"].as_str().unwrap_or_default().to_owned();
    let is_ours = |set: &str| NFT_SETS.iter().any(|start| set.starts_with(start)) && is_plain(set);
    let (sets, strange_sets): (Vec<_>, Vec<_>) = of("set").map(name).partition(|set| is_ours(set));
    let (chains, strange_chains): (Vec<_>, Vec<_>) = of("chain").map(name).partition(|chain| chain == CHAIN);
    let ours = |rule: &&Value| {
        let mentions = rule["expr"].to_string();
        rule["chain"] == CHAIN && NFT_SETS.iter().any(|start| mentions.contains(&format!("\"@{start}")))
    };
    let (rules, strange_rules): (Vec<_>, Vec<_>) = of("rule").partition(ours);
    for set in of("set").filter(|set| is_ours(&name(set))) {
        elements(&set["elem"], &mut found.addresses);
    }
    if of("table").next().is_none() {
        return;
    }
    let others = ["map", "flowtable", "counter", "quota", "limit"].iter().any(|kind| of(kind).next().is_some());
    if strange_sets.is_empty() && strange_chains.is_empty() && strange_rules.is_empty() && !others {
        let what = format!("table inet {TABLE} of nftables with {} set(s)", sets.len());
        let input = format!("delete table inet {TABLE}\n");
        return found.removable.push(Leftover::new(what, &["nft", "-f", "-"], input));
    }
    found.kept.push(format!("table inet {TABLE} of nftables has content that is not Fail2Ban's"));
    let mut input = String::new();
    for handle in rules.iter().filter_map(|rule| rule["handle"].as_u64()) {
        input += &format!("delete rule inet {TABLE} {CHAIN} handle {handle}\n");
    }
    for set in &sets {
        input += &format!("delete set inet {TABLE} {set}\n");
    }
    if strange_rules.iter().all(|rule| rule["chain"] != CHAIN) && !chains.is_empty() {
        input += &format!("delete chain inet {TABLE} {CHAIN}\n");
    }
    if !input.is_empty() {
        let what = format!("{} rule(s) and {} set(s) of table inet {TABLE} of nftables", rules.len(), sets.len());
        found.removable.push(Leftover::new(what, &["nft", "-f", "-"], input));
    }
}

/// Addresses of a set as `nft -j` lists them.
fn elements(value: &Value, addresses: &mut BTreeSet<Prefix>) {
    for element in value.as_array().map(Vec::as_slice).unwrap_or_default() {
        let value = element["elem"].get("val").unwrap_or(element);
        if let Some(text) = value.as_str() {
            addresses.extend(text.parse::<Prefix>());
        } else if let (Some(address), Some(length)) =
            (value["prefix"]["addr"].as_str(), value["prefix"]["len"].as_u64())
        {
            addresses.extend(format!("{address}/{length}").parse::<Prefix>());
        }
    }
}

/// From `iptables-save -t filter`.
fn iptables(saved: &str, restore: &str, found: &mut Leftovers) {
    let family = restore.trim_end_matches("-restore");
    let mut chains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut rules: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for line in saved.lines() {
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if chain.starts_with(START) {
                chains.insert(chain, Vec::new());
            }
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words: Vec<&str> = rest.split(' ').collect();
            rules.push((words[0], rest, words[1..].to_vec()));
        }
    }
    let mut strange: BTreeSet<&str> = BTreeSet::new();
    let mut sets: Vec<(&str, &str)> = Vec::new();
    let mut addresses = BTreeSet::new();
    for (chain, rule, words) in &rules {
        if chains.contains_key(chain) {
            match words[..] {
                ["-s", address, "-j", "REJECT" | "DROP", ..] => addresses.extend(address.parse::<Prefix>()),
                ["-j", "RETURN"] => {}
                _ => _ = strange.insert(chain),
            }
        }
        match jump(words) {
            Some(Target::Chain(to)) if !chain.starts_with(START) => {
                if let Some(jumps) = chains.get_mut(to) {
                    jumps.push(rule);
                }
            }
            Some(Target::Set(set)) => sets.push((set, rule)),
            _ => strange.extend(words.iter().filter(|word| chains.contains_key(**word)).copied()),
        }
    }
    let commit = |lines: &[String]| format!("*filter\n{}\nCOMMIT\n", lines.join("\n"));
    for (chain, jumps) in chains {
        if strange.contains(chain) {
            found.kept.push(format!("chain {chain} of {family} has a rule that is not Fail2Ban's"));
            continue;
        }
        let mut lines: Vec<String> = jumps.iter().map(|rule| format!("-D {rule}")).collect();
        lines.extend([format!("-F {chain}"), format!("-X {chain}")]);
        let what = format!("chain {chain} of {family} and {} rule(s) that lead to it", jumps.len());
        found.removable.push(Leftover::new(what, &[restore, "-w", "--noflush"], commit(&lines)));
    }
    for (set, rule) in sets {
        let what = format!("rule of {family} for set {set}");
        found.removable.push(Leftover::new(what, &[restore, "-w", "--noflush"], commit(&[format!("-D {rule}")])));
    }
    found.addresses.extend(addresses);
}

enum Target<'a> {
    Chain(&'a str),
    Set(&'a str),
}

/// Where a rule leads, if it has the form that stock actions give it: some ports of a protocol, new connections perhaps.
fn jump<'a>(words: &[&'a str]) -> Option<Target<'a>> {
    let mut set = None;
    let mut rest = words;
    loop {
        rest = match rest {
            ["-p", _, more @ ..]
            | ["-m", "tcp" | "udp" | "sctp" | "dccp" | "udplite" | "multiport" | "state" | "conntrack", more @ ..]
            | ["--dport" | "--dports", _, more @ ..]
            | ["--state" | "--ctstate", "NEW", more @ ..] => more,
            ["-m", "set", "--match-set", name, "src", more @ ..] if name.starts_with(START) => {
                set = Some(*name);
                more
            }
            ["-j", "REJECT" | "DROP", ..] => return set.map(Target::Set),
            ["-j", chain] if set.is_none() && chain.starts_with(START) => return Some(Target::Chain(chain)),
            _ => return None,
        };
    }
}

/// From `ipset save`. A set that some other rule uses cannot be destroyed, which the kernel says.
fn ipset(saved: &str, found: &mut Leftovers) {
    for line in saved.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["create", set, "hash:ip" | "hash:net" | "iphash", ..] if set.starts_with(START) => {
                let what = format!("set {set} of ipset");
                found.removable.push(Leftover::new(what, &["ipset", "destroy", set], String::new()));
            }
            ["create", set, kind, ..] if set.starts_with(START) => {
                found.kept.push(format!("set {set} of ipset is a {kind}, which is not Fail2Ban's"));
            }
            ["add", set, address, ..] if set.starts_with(START) => found.addresses.extend(address.parse::<Prefix>()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(found: &Leftovers) -> Vec<&str> {
        found.removable.iter().map(|one| one.what.as_str()).collect()
    }

    #[test]
    fn chains_of_iptables_go_with_the_rules_that_lead_to_them_and_others_stay() {
        let saved = "# by somebody\n*filter\n:INPUT ACCEPT [0:0]\n:f2b-sshd - [0:0]\n:f2b-own - [0:0]\n:f2b-led - [0:0]\n\
                     :f2b-empty - [0:0]\n:other - [0:0]\n\
                     -A INPUT -p tcp -m multiport --dports 22,80 -j f2b-sshd\n\
                     -A INPUT -i eth0 -p tcp -j f2b-led\n-A INPUT -p tcp -j f2b-own\n\
                     -A INPUT -p tcp -m multiport --dports 22 -m set --match-set f2b-web src -j REJECT --reject-with x\n\
                     -A INPUT -p tcp -m set --match-set admins src -j DROP\n-A INPUT -p tcp -m set --match-set f2b-x src -j ACCEPT\n\
                     -A f2b-sshd -s 192.0.2.7/32 -j REJECT --reject-with icmp-port-unreachable\n-A f2b-sshd -j RETURN\n\
                     -A f2b-own -s 192.0.2.8/32 -j LOG\n-A other -s 192.0.2.9/32 -j DROP\nCOMMIT\n";
        let mut found = Leftovers::default();
        iptables(saved, "iptables-restore", &mut found);
        assert_eq!(
            words(&found),
            [
                "chain f2b-empty of iptables and 0 rule(s) that lead to it",
                "chain f2b-sshd of iptables and 1 rule(s) that lead to it",
                "rule of iptables for set f2b-web"
            ]
        );
        assert_eq!(
            found.removable[1].input,
            "*filter\n-D INPUT -p tcp -m multiport --dports 22,80 -j f2b-sshd\n-F f2b-sshd\n-X f2b-sshd\nCOMMIT\n"
        );
        assert_eq!(found.kept.len(), 2, "{:?}", found.kept);
        assert_eq!(found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.7"]);
    }

    #[test]
    fn a_table_with_other_content_loses_only_what_is_recognised() {
        let table = |more: &str| {
            format!(
                "{{\"nftables\": [{{\"table\": {{\"family\": \"inet\", \"name\": \"f2b-table\"}}}},\
                 {{\"chain\": {{\"name\": \"f2b-chain\"}}}},\
                 {{\"set\": {{\"name\": \"addr-set-sshd\", \"elem\": [\"192.0.2.7\", {{\"elem\": {{\"val\": \"192.0.2.8\"}}}}, \
                 {{\"prefix\": {{\"addr\": \"198.51.100.0\", \"len\": 24}}}}]}}}},\
                 {{\"rule\": {{\"chain\": \"f2b-chain\", \"handle\": 5, \"expr\": [{{\"match\": {{\"right\": \"@addr-set-sshd\"}}}}]}}}}{more}]}}"
            )
        };
        let mut found = Leftovers::default();
        nftables(&table(""), &mut found);
        assert_eq!(words(&found), ["table inet f2b-table of nftables with 1 set(s)"]);
        assert_eq!(found.addresses.len(), 3);
        let mut found = Leftovers::default();
        nftables(&table(", {\"rule\": {\"chain\": \"f2b-chain\", \"handle\": 6, \"expr\": []}}"), &mut found);
        assert_eq!(found.kept.len(), 1);
        let input = "delete rule inet f2b-table f2b-chain handle 5\ndelete set inet f2b-table addr-set-sshd\n";
        assert_eq!(found.removable[0].input, input);
        let mut found = Leftovers::default();
        ["", "{}", "[]", "{\"nftables\": 7}"].iter().for_each(|text| nftables(text, &mut found));
        assert_eq!(found, Leftovers::default());
    }

    #[test]
    fn sets_of_other_kinds_or_names_stay() {
        let mut found = Leftovers::default();
        let saved = "create f2b-sshd hash:ip family inet hashsize 1024 maxelem 65536 timeout 0\nadd f2b-sshd 192.0.2.7 timeout 5\n\
                     create f2b-list list:set size 8\ncreate admins hash:ip family inet\nadd admins 192.0.2.8\n";
        ipset(saved, &mut found);
        assert_eq!(words(&found), ["set f2b-sshd of ipset"]);
        assert_eq!((found.kept.len(), found.addresses.len()), (1, 1));
    }
}
