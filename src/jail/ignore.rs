//! Who is never banned: `ignoreself`, `ignoreip`, `ignorecommand`.
//!
//! Addresses and networks are decided here. Names, files and the command need the world
//! outside: for those the verdict is a list of questions, in the order Fail2Ban asks them.
//! The subject is the identifier of a failure, not its address.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::address::{AddressSet, Id, Prefix};

/// Why someone is ignored; prints as Fail2Ban's log names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// One of the machine's own addresses.
    Own,
    /// An address or network of `ignoreip`.
    Address,
    /// A name of `ignoreip`.
    Name,
    /// A file of `ignoreip`.
    File(Arc<str>),
    /// The `ignorecommand`.
    Command,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Own => f.write_str("ignoreself rule"),
            By::Address => f.write_str("ip"),
            By::Name => f.write_str("dns"),
            By::File(path) => write!(f, "file:/{path}"),
            By::Command => f.write_str("command"),
        }
    }
}

/// Something that has to be asked before an identifier may be counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Is it one of the addresses of this name?
    Name(Arc<str>),
    /// Is it listed in this file? See [`Listed`].
    File(Arc<str>),
    /// Does `ignorecommand` say so?
    Command,
}

impl Question {
    /// The reason, if the answer is yes.
    #[must_use]
    pub fn by(&self) -> By {
        match self {
            Question::Name(_) => By::Name,
            Question::File(path) => By::File(path.clone()),
            Question::Command => By::Command,
        }
    }
}

/// Whether someone is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Ignored(By),
    /// No.
    NotIgnored,
    /// Yes if the answer to one of these is; ask them in this order.
    Ask(Vec<Question>),
}

/// The rules of a jail.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `ignoreself`.
    pub ignoreself: bool,
    /// Whether there is an `ignorecommand`.
    pub command: bool,
    own: Arc<AddressSet>,
    addresses: Vec<Prefix>,
    others: Vec<Entry>,
    set: AddressSet,
}

impl Default for Rules {
    fn default() -> Rules {
        let own = Arc::default();
        Rules { ignoreself: true, command: false, own, addresses: vec![], others: vec![], set: AddressSet::default() }
    }
}

/// An entry of `ignoreip` that is no single address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Network(Prefix),
    Name(Arc<str>),
    File(Arc<str>),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Network(network) => network.fmt(f),
            Entry::Name(name) => f.write_str(name),
            Entry::File(path) => write!(f, "file:/{path}"),
        }
    }
}

impl Rules {
    /// The machine's own addresses, for `ignoreself`.
    pub fn set_own(&mut self, own: Arc<AddressSet>) {
        self.own = own;
    }

    /// Adds an address, network, name or `file:PATH`; false if it was there.
    pub fn add(&mut self, text: &str) -> bool {
        match parse(text) {
            Parsed::Address(address) => {
                self.set.insert(address) && {
                    self.addresses.push(address);
                    true
                }
            }
            Parsed::Other(entry) if self.others.contains(&entry) => false,
            Parsed::Other(entry) => {
                if let Entry::Network(network) = entry {
                    self.set.insert(network);
                }
                self.others.push(entry);
                true
            }
        }
    }

    /// Removes an entry; false if it was not there.
    pub fn remove(&mut self, text: &str) -> bool {
        match parse(text) {
            Parsed::Address(address) => {
                self.addresses.retain(|known| *known != address);
                self.set.remove(address)
            }
            Parsed::Other(entry) => {
                if let Entry::Network(network) = entry {
                    self.set.remove(network);
                }
                let before = self.others.len();
                self.others.retain(|known| *known != entry);
                self.others.len() < before
            }
        }
    }

    /// Removes all entries of `ignoreip`.
    pub fn clear(&mut self) {
        self.addresses.clear();
        self.others.clear();
        self.set = AddressSet::default();
    }

    /// The entries as `get JAIL ignoreip` lists them: networks, names and files first.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.others.iter().map(Entry::to_string).chain(self.addresses.iter().map(Prefix::to_string)).collect()
    }

    /// Whether an identifier is ignored.
    #[must_use]
    pub fn check(&self, id: &Id) -> Verdict {
        if let Some(prefix) = id.prefix() {
            // of a network it is the address that counts
            let host = Prefix::host(prefix.address());
            if self.ignoreself && self.own.covering(prefix).is_some() {
                return Verdict::Ignored(By::Own);
            }
            if self.set.covering(prefix).is_some()
                || !prefix.is_host() && self.set.covering(host).is_some_and(|found| !found.is_host())
            {
                return Verdict::Ignored(By::Address);
            }
        }
        let mut questions = Vec::new();
        for entry in &self.others {
            match entry {
                Entry::Network(_) => {}
                // a name is looked up and its addresses compared; a text never equals one
                Entry::Name(name) if id.prefix().is_some() => questions.push(Question::Name(name.clone())),
                Entry::Name(_) => {}
                Entry::File(path) => questions.push(Question::File(path.clone())),
            }
        }
        if self.command {
            questions.push(Question::Command);
        }
        if questions.is_empty() { Verdict::NotIgnored } else { Verdict::Ask(questions) }
    }
}

enum Parsed {
    Address(Prefix),
    Other(Entry),
}

fn parse(text: &str) -> Parsed {
    if let Some(path) = text.strip_prefix("file:") {
        // `file:///x` is `/x`, `file://x` is `/x` as well
        let path = path.strip_prefix("//").map_or(path.to_owned(), |rest| format!("/{}", rest.trim_start_matches('/')));
        return Parsed::Other(Entry::File(path.into()));
    }
    match Id::parse(text) {
        Id::Prefix(prefix) if prefix.is_host() => Parsed::Address(prefix),
        Id::Prefix(prefix) => Parsed::Other(Entry::Network(prefix)),
        Id::Text(text) => Parsed::Other(Entry::Name(text)),
    }
}

/// The entries of a file of `ignoreip`.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    addresses: AddressSet,
    texts: HashSet<Arc<str>>,
}

impl Listed {
    /// Entries are separated by blanks, commas and newlines; `#` or `;` at the beginning of a line or
    /// after a blank starts a comment.
    #[must_use]
    pub fn parse(content: &str) -> Listed {
        let mut listed = Listed::default();
        for line in content.lines() {
            let mut before = ' ';
            let comment = line.char_indices().find(|(_, c)| {
                let starts = matches!(c, '#' | ';') && before.is_whitespace();
                before = *c;
                starts
            });
            let line = comment.map_or(line, |(at, _)| &line[..at]);
            for entry in line.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()) {
                match Id::parse(entry) {
                    Id::Prefix(prefix) => _ = listed.addresses.insert(prefix),
                    Id::Text(text) => _ = listed.texts.insert(text),
                }
            }
        }
        listed
    }

    /// Whether an identifier is in the file: as it is, or inside of a network.
    #[must_use]
    pub fn contains(&self, id: &Id) -> bool {
        match id {
            Id::Prefix(prefix) => self.addresses.covering(*prefix).is_some(),
            Id::Text(text) => self.texts.contains(text),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn rules(entries: &[&str]) -> Rules {
        let mut rules = Rules::default();
        for entry in entries {
            rules.add(entry);
        }
        rules
    }

    fn check(rules: &Rules, id: &str) -> Verdict {
        rules.check(&Id::parse(id))
    }

    #[test]
    fn addresses_and_networks_are_decided_at_once() {
        let rules = rules(&["198.51.100.0/24", "192.0.2.100", "2001:db8::/ffff:ffff::", "::ffff:192.0.2.9"]);
        for ignored in ["198.51.100.7", "192.0.2.100", "2001:db8:5::1", "192.0.2.9", "198.51.100.0/28", "198.51.0.0/16"]
        {
            let expected = if ignored == "198.51.0.0/16" { Verdict::NotIgnored } else { Verdict::Ignored(By::Address) };
            assert_eq!(check(&rules, ignored), expected, "{ignored}");
        }
        for counted in ["192.0.2.101", "bob", "::1", "198.51.101.1"] {
            assert_eq!(check(&rules, counted), Verdict::NotIgnored, "{counted}");
        }
        assert_eq!(check(&self::rules(&["0.0.0.0/0"]), "::1"), Verdict::NotIgnored);
        // a network is inside of another if its first address is
        assert_eq!(check(&rules, "198.51.100.0/22"), Verdict::Ignored(By::Address));
    }

    #[test]
    fn own_addresses_come_first_unless_ignoreself_is_off() {
        let mut rules = rules(&["192.0.2.1"]);
        rules.set_own(Arc::new(["192.0.2.1".parse().unwrap()].into_iter().collect()));
        assert_eq!(check(&rules, "192.0.2.1"), Verdict::Ignored(By::Own));
        rules.ignoreself = false;
        assert_eq!(check(&rules, "192.0.2.1"), Verdict::Ignored(By::Address));
    }

    #[test]
    fn names_files_and_the_command_are_questions_in_order() {
        let mut rules = rules(&["home.example.org", "192.0.2.0/24", "file:///etc/friends", "file:x"]);
        rules.command = true;
        let name = Question::Name("home.example.org".into());
        let file = Question::File("/etc/friends".into());
        let other = Question::File("x".into());
        assert_eq!(check(&rules, "192.0.2.1"), Verdict::Ignored(By::Address));
        let asked = Verdict::Ask(vec![name, file.clone(), other.clone(), Question::Command]);
        assert_eq!(check(&rules, "203.0.113.1"), asked);
        assert_eq!(check(&rules, "bob"), Verdict::Ask(vec![file.clone(), other, Question::Command]));
        assert_eq!(file.by().to_string(), "file://etc/friends");
    }

    #[test]
    fn entries_are_listed_added_and_removed() {
        let mut rules = rules(&["192.0.2.100", "198.51.100.77/24"]);
        assert!(!rules.add("192.0.2.100/32"));
        assert!(rules.add("192.0.2.201"));
        assert_eq!(rules.list(), ["198.51.100.0/24", "192.0.2.100", "192.0.2.201"]);
        assert!(!rules.remove("192.0.2.251"));
        assert!(rules.remove("192.0.2.100") && rules.remove("198.51.100.0/24"));
        assert_eq!(rules.list(), ["192.0.2.201"]);
        assert_eq!(check(&rules, "198.51.100.1"), Verdict::NotIgnored);
        rules.clear();
        assert!(rules.list().is_empty());
    }

    #[test]
    fn a_file_lists_addresses_networks_and_texts() {
        let listed =
            Listed::parse("192.0.2.1, 198.51.100.0/24 # 192.0.2.2\n; 192.0.2.3\n2001:db8::/32\tbob\n192.0.2.4;x\r\n");
        for id in ["192.0.2.1", "198.51.100.4", "2001:db8::9", "bob", "192.0.2.4;x"] {
            assert!(listed.contains(&Id::parse(id)), "{id}");
        }
        for id in ["192.0.2.2", "192.0.2.3", "192.0.2.4", "x", "eve", "#"] {
            assert!(!listed.contains(&Id::parse(id)), "{id}");
        }
    }
}
