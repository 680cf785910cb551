//! `[contact]` of `sekimori.toml`: where to ask who is responsible for an address.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeValue;

use super::settings::Reader;
use crate::address::Prefix;

/// Where the owners of addresses are looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    /// Key `zone`: the DNS zone of abuse contacts; empty: none is asked.
    pub zone: String,
    /// Key `resolver`: whom to ask for names; none: what the system uses.
    pub resolver: Option<SocketAddr>,
    /// Key `rdap`: URL of the registries' directory (RFC 9224), with a final `/`; empty: registries are not asked.
    pub rdap: String,
    /// Key `leave_out`: addresses that are never used, or `@domain`.
    pub leave_out: Vec<String>,
    /// Table `[contact.table]`: who is responsible for a network, whatever others say; none: nobody is told.
    pub table: Vec<(Prefix, Vec<String>)>,
    /// Key `report_also`: networks that are treated as public although they are not; for tests and labs.
    pub report_also: Vec<Prefix>,
}

impl Default for Contact {
    fn default() -> Contact {
        Contact {
            zone: "abuse-contacts.abusix.zone".to_owned(),
            resolver: None,
            rdap: "https://data.iana.org/rdap/".to_owned(),
            leave_out: Vec::new(),
            table: Vec::new(),
            report_also: Vec::new(),
        }
    }
}

/// In the table, instead of an address: reports about this network go to nobody.
const NEVER: &str = "never";

impl Contact {
    /// Whether an address is in one of the networks of `report_also`.
    #[must_use]
    pub fn is_excepted(&self, address: IpAddr) -> bool {
        self.report_also.iter().any(|network| network.contains(Prefix::host(address)))
    }

    /// Whom the table names for an address: the smallest network wins; nobody if the list is empty.
    #[must_use]
    pub fn named(&self, address: IpAddr) -> Option<(Prefix, &[String])> {
        let host = Prefix::host(address);
        let containing = self.table.iter().filter(|(network, _)| network.contains(host));
        containing.max_by_key(|(network, _)| network.length()).map(|(network, names)| (*network, &**names))
    }

    pub(super) fn read(reader: &mut Reader<'_>, value: &toml::Spanned<DeValue<'_>>) -> Contact {
        let mut contact = Contact::default();
        for (key, value) in reader.table(value, "write [contact]") {
            match key.get_ref().as_ref() {
                "zone" => {
                    let zone = |word: &str| is_name(word).then(|| word.trim_end_matches('.').to_owned());
                    contact.zone =
                        reader.word(value, "write a DNS name, or \"\" for none", zone).unwrap_or(contact.zone);
                }
                "resolver" => {
                    let help = "write an address such as \"192.0.2.53\" or \"127.0.0.1:5353\"";
                    let server = |word: &str| {
                        word.parse().ok().or_else(|| word.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53)))
                    };
                    contact.resolver = reader.word(value, help, server).or(contact.resolver);
                }
                "rdap" => {
                    let help = "write an URL that ends in `/`, or \"\" for none";
                    let directory = |word: &str| {
                        let url = ["https://", "http://"].iter().any(|scheme| word.starts_with(scheme));
                        (word.is_empty() || url && word.ends_with('/')).then(|| word.to_owned())
                    };
                    contact.rdap = reader.word(value, help, directory).unwrap_or(contact.rdap);
                }
                "leave_out" => {
                    contact.leave_out =
                        reader.words(value, "write a list such as [\"noc@example.net\", \"@example.org\"]", |word| {
                            word.contains('@').then(|| word.to_owned())
                        });
                }
                "report_also" => {
                    let network = |word: &str| word.parse().ok();
                    contact.report_also = reader.words(value, "write networks such as [\"192.0.2.0/24\"]", network);
                }
                "table" => {
                    for (key, value) in reader.table(value, "write [contact.table]") {
                        let Ok(network) = key.get_ref().parse() else {
                            reader.problem(
                                key.span(),
                                format!("`{}` is no network", key.get_ref()),
                                "write \"198.51.100.0/24\"",
                            );
                            continue;
                        };
                        let help = "write \"abuse@example.net\", a list of addresses, or \"never\"";
                        let names = reader
                            .words(value, help, |word| (word == NEVER || word.contains('@')).then(|| word.to_owned()));
                        if names.is_empty() {
                            continue;
                        }
                        let names = names.into_iter().filter(|name| name != NEVER).collect();
                        contact.table.push((network, names));
                    }
                }
                _ => {
                    let keys =
                        "[contact] has the keys `zone`, `resolver`, `rdap`, `leave_out`, `report_also` and `table`";
                    reader.unknown(key, keys);
                }
            }
        }
        contact
    }
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.is_empty() || text.len() < 180 && text.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::settings::parse;
    use super::*;

    #[test]
    fn whom_to_ask_is_read_and_what_cannot_be_is_named_with_its_place() {
        let text = "[contact]\nzone = \"abuse.test.\"\nresolver = \"127.0.0.1:5391\"\nrdap = \"\"\nleave_out = [\"@x.example\"]\n\
                    report_also = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n[contact.table]\n\"198.51.100.0/24\" = \"noc@a.example\"\n\
                    \"198.51.100.128/25\" = \"never\"\n\"2001:db8::/32\" = [\"a@b.example\", \"c@d.example\"]\n";
        let (settings, problems) = parse(text, Path::new("s.toml"));
        assert_eq!(problems, []);
        let contact = settings.contact;
        assert_eq!((contact.zone.as_str(), contact.rdap.as_str()), ("abuse.test", ""));
        assert_eq!(contact.resolver, "127.0.0.1:5391".parse().ok());
        let named = |text: &str| contact.named(text.parse().expect("an address")).map(|(_, names)| names.to_vec());
        assert_eq!(named("198.51.100.7"), Some(vec!["noc@a.example".to_owned()]));
        assert_eq!(named("198.51.100.200"), Some(vec![]));
        assert_eq!(named("2001:db8::7").map(|names| names.len()), Some(2));
        assert_eq!(named("203.0.113.1"), None);
        let bad = "[contact]\nzone = \"a b\"\nresolver = \"x\"\nrdap = \"ftp://x/\"\nleave_out = [\"x\"]\nreport_also = \"192.0.2.0/33\"\n\
                   [contact.table]\n\"x\" = \"a@b\"\n\"192.0.2.0/24\" = 7\n";
        let (settings, problems) = parse(bad, Path::new("s.toml"));
        let mut lines: Vec<u32> = problems.iter().map(|problem| problem.span.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [2, 3, 4, 5, 6, 8, 9], "{problems:?}");
        assert_eq!(settings.contact, Contact::default());
    }
}
