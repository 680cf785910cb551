//! The rules that look into our sets, by `iptables-restore` and `ip6tables-restore`.
//!
//! Rules of iptables have no other interface that lasts: the legacy one is a blob of the
//! kernel's own memory layout, that of nftables' compatibility layer is a detail of the
//! program. So these programs are started when jails come or go, one transaction each. A
//! ban or unban never starts a process.
//!
//! ```text
//! raw     PREROUTING     -> sekimori   jails that drop: before conntrack and anybody's DNAT
//! filter  INPUT, FORWARD -> sekimori   jails that answer, as only these chains may
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::process::{Command, Stdio};

use super::super::{Error, Scope, Verdict};

/// All our chains begin with this; it is the name of the first.
pub const CHAIN: &str = "sekimori";
/// Chains that send packets to ours.
const HOOKS: [(&str, &str); 3] = [("raw", "PREROUTING"), ("filter", "INPUT"), ("filter", "FORWARD")];
/// Answers a second, over all jails; what is beyond is dropped. A reject goes to whoever the
/// packet says it comes from.
const ANSWERS: &str = "-m limit --limit 100/sec --limit-burst 100";
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// TCP, UDP, DCCP, SCTP, UDP-Lite: what `multiport` understands.
const WITH_PORTS: [u8; 5] = [TCP, 17, 33, 132, 136];
/// Ports one `multiport` match may list; a range counts twice.
const MULTIPORT: usize = 15;
/// Neighbour discovery and multicast listeners: shutting out a neighbour on the link for all
/// ports must not make it unreachable for ourselves.
const NEIGHBOURS: [u8; 9] = [130, 131, 132, 133, 134, 135, 136, 137, 143];
/// Longest text of a program that is read.
const LONGEST: u64 = 64 << 20;

/// The programs of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// IPv6, else IPv4.
    pub v6: bool,
}

/// What of ours stands in the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Our chains, with the number of their rules.
    pub chains: BTreeMap<(String, String), usize>,
    /// How often each of [`HOOKS`] sends packets to our chain.
    pub jumps: [usize; 3],
}

/// Rules by table and chain of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    chains: BTreeMap<(&'static str, String), Vec<String>>,
}

impl Rules {
    /// The rules of jails: their sets and what these cover. `raw` is whether there is such a table.
    pub fn of<'a>(family: Family, raw: bool, jails: impl Iterator<Item = (&'a str, &'a Scope)>) -> Rules {
        let mut rules = Rules::default();
        for (set, scope) in jails {
            let table = if raw && scope.verdict == Verdict::Drop { "raw" } else { "filter" };
            if !rules.chains.contains_key(&(table, CHAIN.to_owned())) {
                rules.fixed(table, family);
            }
            let look = format!("-m set --match-set {set} src");
            let target = match scope.verdict {
                Verdict::Drop => "-j DROP".to_owned(),
                Verdict::Reject => format!("-g {CHAIN}-reject"),
                Verdict::RejectReset => format!("-g {CHAIN}-reset"),
            };
            if scope.ports.is_empty() {
                if family.v6 {
                    rules.add(table, "", &format!("! -p ipv6-icmp {look} {target}"));
                    rules.add(table, "-icmp", &format!("{look} {target}"));
                } else {
                    rules.add(table, "", &format!("{look} {target}"));
                }
                continue;
            }
            for protocol in &scope.protocols {
                if !WITH_PORTS.contains(protocol) || scope.ports.contains(&(0, u16::MAX)) {
                    let chain = if family.v6 && *protocol == ICMPV6 { "-icmp" } else { "" };
                    rules.add(table, chain, &format!("-p {protocol} {look} {target}"));
                    continue;
                }
                for ports in multiport(&scope.ports) {
                    rules.add(table, "", &format!("-p {protocol} -m multiport --dports {ports} {look} {target}"));
                }
                if table == "filter" {
                    // Behind DNAT the packet has another port than the one it was sent to.
                    for (first, last) in &scope.ports {
                        let sent_to = format!("-m conntrack --ctstate DNAT --ctorigdstport {first}:{last}");
                        rules.add(table, "", &format!("-p {protocol} {sent_to} {look} {target}"));
                    }
                }
            }
        }
        rules
    }

    /// The chains every table has, and their first rules.
    fn fixed(&mut self, table: &'static str, family: Family) {
        self.chains.insert((table, CHAIN.to_owned()), Vec::new());
        if family.v6 {
            self.add(table, "", &format!("-p ipv6-icmp -j {CHAIN}-icmp"));
            for kind in NEIGHBOURS {
                self.add(table, "-icmp", &format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"));
            }
        }
        if table == "filter" {
            let icmp = if family.v6 { "icmp6" } else { "icmp" };
            self.add(table, "-reset", &format!("-p tcp {ANSWERS} -j REJECT --reject-with tcp-reset"));
            self.add(table, "-reset", "-p tcp -j DROP");
            self.add(table, "-reset", &format!("-g {CHAIN}-reject"));
            self.add(table, "-reject", &format!("{ANSWERS} -j REJECT --reject-with {icmp}-port-unreachable"));
            self.add(table, "-reject", "-j DROP");
        }
    }

    fn add(&mut self, table: &'static str, chain: &str, rule: &str) {
        self.chains.entry((table, format!("{CHAIN}{chain}"))).or_default().push(rule.to_owned());
    }

    /// How many rules look into a set.
    pub fn references(&self, set: &str) -> u32 {
        let look = format!("--match-set {set} src");
        self.chains.values().flatten().filter(|rule| rule.contains(&look)).count() as u32
    }

    /// Whether they stand there.
    pub fn stand(&self, present: &Present) -> bool {
        self.chains.iter().all(|((table, chain), rules)| {
            present.chains.get(&((*table).to_owned(), chain.clone())).is_some_and(|count| *count >= rules.len())
        }) && HOOKS
            .iter()
            .zip(present.jumps)
            .all(|((table, _), jumps)| jumps > 0 || !self.chains.contains_key(&(*table, CHAIN.to_owned())))
    }

    /// The input for `iptables-restore --noflush` that makes these rules of what is there.
    pub fn restore(&self, present: &Present) -> String {
        let mut text = String::new();
        for table in ["raw", "filter"] {
            let ours = |(t, _): &&(&str, String)| *t == table;
            let old: Vec<&String> = present.chains.keys().filter(|(t, _)| t == table).map(|(_, c)| c).collect();
            let new: Vec<&String> = self.chains.keys().filter(ours).map(|(_, chain)| chain).collect();
            if old.is_empty() && new.is_empty() {
                continue;
            }
            let _ = writeln!(text, "*{table}");
            // Naming a chain empties it.
            for chain in new.iter().chain(old.iter().filter(|chain| !new.contains(chain))) {
                let _ = writeln!(text, ":{chain} - [0:0]");
            }
            for ((_, chain), rules) in self.chains.iter().filter(|(key, _)| ours(key)) {
                for rule in rules {
                    let _ = writeln!(text, "-A {chain} {rule}");
                }
            }
            for ((_, hook), jumps) in HOOKS.iter().zip(present.jumps).filter(|((t, _), _)| *t == table) {
                match (new.is_empty(), jumps) {
                    (false, 0) => {
                        let _ = writeln!(text, "-I {hook} -j {CHAIN}");
                    }
                    (false, _) => {}
                    (true, jumps) => (0..jumps).for_each(|_| {
                        let _ = writeln!(text, "-D {hook} -j {CHAIN}");
                    }),
                }
            }
            for chain in old.iter().filter(|chain| !new.contains(chain)) {
                let _ = writeln!(text, "-X {chain}");
            }
            let _ = writeln!(text, "COMMIT");
        }
        text
    }
}

/// Lists for `multiport`, as many as are needed.
fn multiport(ports: &[(u16, u16)]) -> Vec<String> {
    let mut lists: Vec<(usize, String)> = Vec::new();
    for (first, last) in ports {
        let (weight, text) = if first == last { (1, first.to_string()) } else { (2, format!("{first}:{last}")) };
        match lists.last_mut() {
            Some((sum, list)) if *sum + weight <= MULTIPORT => {
                *sum += weight;
                *list = format!("{list},{text}");
            }
            _ => lists.push((weight, text)),
        }
    }
    lists.into_iter().map(|(_, list)| list).collect()
}

impl Family {
    fn program(self, tail: &str) -> String {
        format!("{}{tail}", if self.v6 { "ip6tables" } else { "iptables" })
    }

    /// What of ours stands there.
    pub fn present(self) -> Result<Present, Error> {
        let text = run(&self.program("-save"), &[], "")?;
        let mut present = Present::default();
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(chain) = line.strip_prefix(':') {
                let chain = chain.split(' ').next().unwrap_or_default();
                if is_ours(chain) {
                    present.chains.entry((table.to_owned(), chain.to_owned())).or_default();
                }
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
                if let Some(count) = present.chains.get_mut(&(table.to_owned(), chain.to_owned())) {
                    *count += 1;
                }
                if rule.strip_prefix("-j ") == Some(CHAIN)
                    && let Some(hook) = HOOKS.iter().position(|hook| *hook == (table, chain))
                {
                    present.jumps[hook] += 1;
                }
            }
        }
        Ok(present)
    }

    /// Carries out the text of [`Rules::restore`], all or nothing per table.
    pub fn restore(self, text: &str) -> Result<(), Error> {
        run(&self.program("-restore"), &["--noflush", "--wait", "10"], text).map(|_| ())
    }

    /// Whether there is such a table, without touching it.
    pub fn has(self, table: &str) -> Result<(), Error> {
        let text = format!("*{table}\n:{CHAIN} - [0:0]\nCOMMIT\n");
        run(&self.program("-restore"), &["--noflush", "--wait", "10", "--test"], &text).map(|_| ())
    }
}

fn is_ours(chain: &str) -> bool {
    chain.strip_prefix(CHAIN).is_some_and(|tail| ["", "-icmp", "-reject", "-reset"].contains(&tail))
}

/// Runs a program of iptables; what it wrote.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, Error> {
    let failed = |text: String| Error::Program { program: program.to_owned(), text };
    // A service's PATH may lack the folders of the administrator's programs.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let Some(file) = folders.map(|folder| folder.join(program)).find(|file| file.exists()) else {
        return Err(failed("it is not installed".to_owned()));
    };
    let child = Command::new(file)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| failed(error.to_string()))?;
    let (mut output, mut errors) = (String::new(), String::new());
    let talk = std::thread::scope(|scope| {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // Both outputs are read while it is written, so that no pipe fills up.
        scope.spawn(move || stdin.map(|mut to| to.write_all(input.as_bytes())));
        let errors = &mut errors;
        scope.spawn(move || stderr.map(|from| from.take(LONGEST).read_to_string(errors)));
        stdout.map_or(Ok(0), |from| from.take(LONGEST).read_to_string(&mut output))
    });
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    talk.map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(output);
    }
    let said: String = errors.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    let hint = if said.contains("socket") { " (the matches of iptables need CAP_NET_RAW as well)" } else { "" };
    Err(failed(if said.is_empty() { status.to_string() } else { said + hint }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Family = Family { v6: false };

    fn scope(ports: &[(u16, u16)], protocols: &[u8], verdict: Verdict) -> Scope {
        Scope { ports: ports.into(), protocols: protocols.into(), verdict }
    }

    #[test]
    fn long_port_lists_are_cut_to_what_multiport_takes() {
        let ports: Vec<(u16, u16)> = (1..=20).map(|n| (n * 10, n * 10 + n % 2)).collect();
        let lists = multiport(&ports);
        assert_eq!(lists[0], "10:11,20,30:31,40,50:51,60,70:71,80,90:91,100");
        assert_eq!(lists.join(",").split(',').count(), 20);
    }

    #[test]
    fn rules_that_are_there_are_replaced_and_what_is_no_longer_needed_goes() {
        let (drop, reject) = (scope(&[(22, 22)], &[6], Verdict::Drop), scope(&[], &[], Verdict::Reject));
        let rules = Rules::of(V4, true, [("sekimori-sshd4", &drop)].into_iter());
        let text = rules.restore(&Present::default());
        assert_eq!(
            text,
            "*raw\n:sekimori - [0:0]\n\
             -A sekimori -p 6 -m multiport --dports 22 -m set --match-set sekimori-sshd4 src -j DROP\n\
             -I PREROUTING -j sekimori\nCOMMIT\n"
        );
        let there = Present { chains: [(("raw".to_owned(), "sekimori".to_owned()), 1)].into(), jumps: [1, 0, 0] };
        assert!(rules.stand(&there) && rules.references("sekimori-sshd4") == 1);
        let text = Rules::of(V4, true, [("sekimori-all4", &reject)].into_iter()).restore(&there);
        assert!(
            text.starts_with("*raw\n:sekimori - [0:0]\n-D PREROUTING -j sekimori\n-X sekimori\nCOMMIT\n"),
            "{text}"
        );
        assert!(text.contains("\n-A sekimori -m set --match-set sekimori-all4 src -g sekimori-reject\n"), "{text}");
        assert!(text.ends_with("-I INPUT -j sekimori\n-I FORWARD -j sekimori\nCOMMIT\n"), "{text}");
    }
}
