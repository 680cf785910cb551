//! Who is responsible for an address: the administrator's own table, the DNS zone of abuse contacts,
//! then the registries. "There is nobody" and "nobody answered" are two different things.
//!
//! All of it talks to strangers, none of it is on the way of a ban.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::address::Prefix;
use crate::config::contact::Contact;
use crate::time::Time;
use dns::{Dns, Texts};
use mailbox::{Mailbox, Unusable};
use rdap::Rdap;

pub mod dns;
pub mod mailbox;
pub mod rdap;
pub mod special;

/// So many mailboxes are written to at most.
pub const MOST_CONTACTS: usize = 2;
/// So many names of one answer are looked at and kept.
const MOST_NAMED: usize = 32;
/// Answers are kept for at least and at most so many seconds, whatever they say of themselves.
const SHORTEST: f64 = 3600.0;
const LONGEST: f64 = 7.0 * 86400.0;
/// So long a registry's answer is kept, and that there is none.
const REGISTRY: f64 = 86400.0;
/// So many answers are kept.
const MOST_KEPT: usize = 4096;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `[contact.table]`.
    Table,
    /// The DNS zone.
    Zone,
    /// A registry.
    Rdap,
}

impl Source {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Table => "the table in sekimori.toml",
            Source::Zone => "the DNS zone of abuse contacts",
            Source::Rdap => "the registry (RDAP)",
        }
    }
}

/// What a source said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The source.
    pub source: Source,
    /// What it named, and why that is not used.
    pub named: Vec<(String, Option<Unusable>)>,
    /// Why it said nothing, if it said nothing.
    pub silent: Option<String>,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These are responsible, the first most of all.
    Contacts(Vec<Mailbox>, Source),
    /// Nobody is to be told, and why.
    Never(String),
    /// Nobody is named.
    Nobody,
    /// A source did not answer: to be asked again, after so many seconds at the earliest.
    NoAnswer(u64),
}

/// All about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The address.
    pub address: IpAddr,
    /// The outcome.
    pub verdict: Verdict,
    /// First and last address of the network, where that is known.
    pub network: Option<(IpAddr, IpAddr)>,
    /// The sources in the order they were asked.
    pub asked: Vec<Asked>,
    /// Until when it holds.
    pub until: Time,
}

/// Looks up contacts, and remembers them.
#[derive(Debug)]
pub struct Lookup {
    settings: Contact,
    dns: Arc<Dns>,
    rdap: Option<Rdap>,
    /// The oldest first.
    kept: Mutex<VecDeque<Finding>>,
}

/// Nobody answered: so soon it may be tried again, in seconds.
const SOON: u64 = 60;

impl Lookup {
    /// With these settings.
    ///
    /// # Errors
    /// If there is no resolver or no TLS.
    pub fn new(settings: &Contact) -> Result<Lookup, String> {
        let dns = Arc::new(Dns::new(settings.resolver)?);
        let rdap = if settings.rdap.is_empty() { None } else { Some(Rdap::new(settings, dns.clone())?) };
        Ok(Lookup { settings: settings.clone(), dns, rdap, kept: Mutex::default() })
    }

    /// Who is responsible for an address.
    pub async fn contacts(&self, address: IpAddr, now: Time) -> Finding {
        let address = address.to_canonical();
        if let Some(known) = self.known(address, now) {
            return known;
        }
        let mut finding = Finding { address, verdict: Verdict::Nobody, network: None, asked: Vec::new(), until: now };
        if let Some(text) = special::purpose(address).filter(|_| !self.settings.is_excepted(address)) {
            finding.verdict = Verdict::Never(format!("not an address of the Internet: {text}"));
            return finding;
        }
        if self.ask_table(&mut finding) {
            return finding;
        }
        let mut retry = None;
        if !self.settings.zone.is_empty() && self.ask_zone(&mut finding, now, &mut retry).await
            || self.rdap.is_some() && self.ask_rdap(&mut finding, now, &mut retry).await
        {
            self.keep(&finding);
            return finding;
        }
        if let Some(seconds) = retry {
            finding.verdict = Verdict::NoAnswer(seconds);
        } else {
            self.keep(&finding);
        }
        finding
    }

    /// The administrator's own word is the last.
    fn ask_table(&self, finding: &mut Finding) -> bool {
        let Some((network, names)) = self.settings.named(finding.address) else { return false };
        finding.network = Some(network.range());
        if names.is_empty() {
            finding.verdict = Verdict::Never(format!("{} says so for {network}", Source::Table.name()));
            return true;
        }
        // those he names himself he means
        let named = names.iter().map(|name| (name.clone(), Mailbox::parse(name)));
        Lookup::take(finding, Source::Table, named.collect())
    }

    async fn ask_zone(&self, finding: &mut Finding, now: Time, retry: &mut Option<u64>) -> bool {
        let name = dns::reversed(finding.address, &self.settings.zone);
        match self.dns.texts(&name).await {
            Texts::Found(records, ttl) => {
                finding.until = now + f64::from(ttl).clamp(SHORTEST, LONGEST);
                let named = records.iter().flat_map(|record| self.candidates(record)).collect();
                Lookup::take(finding, Source::Zone, named)
            }
            Texts::Missing(ttl) => {
                finding.until = now + ttl.map_or(SHORTEST, f64::from).clamp(SHORTEST, LONGEST);
                finding.asked.push(Asked { source: Source::Zone, named: Vec::new(), silent: None });
                false
            }
            Texts::Silent(text) => {
                finding.asked.push(Asked { source: Source::Zone, named: Vec::new(), silent: Some(text) });
                *retry = Some(SOON);
                false
            }
        }
    }

    async fn ask_rdap(&self, finding: &mut Finding, now: Time, retry: &mut Option<u64>) -> bool {
        let Some(rdap) = &self.rdap else { return false };
        match rdap.network(finding.address).await {
            rdap::Answer::Found(network) => {
                finding.until = now + REGISTRY;
                let contains = |(start, end): &(IpAddr, IpAddr)| (*start..=*end).contains(&finding.address);
                finding.network = network.range.filter(contains);
                let named = network.emails.iter().map(|email| self.candidate(email));
                Lookup::take(finding, Source::Rdap, named.collect())
            }
            rdap::Answer::Missing => {
                finding.asked.push(Asked { source: Source::Rdap, named: Vec::new(), silent: None });
                false
            }
            rdap::Answer::Silent(text, pause) => {
                finding.asked.push(Asked { source: Source::Rdap, named: Vec::new(), silent: Some(text) });
                *retry = Some(pause.unwrap_or(SOON).max(retry.unwrap_or(0)));
                false
            }
        }
    }

    /// The addresses of one record: several are separated by commas.
    fn candidates(&self, record: &[u8]) -> Vec<(String, Result<Mailbox, Unusable>)> {
        let text = String::from_utf8_lossy(record);
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| self.candidate(part)).collect()
    }

    fn candidate(&self, text: &str) -> (String, Result<Mailbox, Unusable>) {
        (text.chars().take(300).collect(), Mailbox::usable(text, &self.settings.leave_out))
    }

    /// Notes what a source named; whether somebody usable is among them.
    fn take(finding: &mut Finding, source: Source, mut named: Vec<(String, Result<Mailbox, Unusable>)>) -> bool {
        named.truncate(MOST_NAMED);
        let mut usable: Vec<Mailbox> = Vec::new();
        for mailbox in named.iter().filter_map(|(_, read)| read.as_ref().ok()) {
            if !usable.contains(mailbox) && usable.len() < MOST_CONTACTS {
                usable.push(mailbox.clone());
            }
        }
        let named = named.into_iter().map(|(text, read)| (text, read.err())).collect();
        finding.asked.push(Asked { source, named, silent: None });
        if usable.is_empty() {
            return false;
        }
        finding.verdict = Verdict::Contacts(usable, source);
        true
    }

    /// What is known already: of the address itself, or of the smallest network with it.
    fn known(&self, address: IpAddr, now: Time) -> Option<Finding> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|finding| finding.until > now);
        if let Some(own) = kept.iter().find(|finding| finding.address == address) {
            return Some(own.clone());
        }
        let registry = |finding: &&Finding| matches!(finding.verdict, Verdict::Contacts(_, Source::Rdap));
        let size = |(start, end): (IpAddr, IpAddr)| match (start, end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => u128::from(end.to_bits() - start.to_bits()),
            (IpAddr::V6(start), IpAddr::V6(end)) => end.to_bits() - start.to_bits(),
            _ => u128::MAX,
        };
        let around = kept.iter().filter(registry).filter_map(|finding| {
            let (start, end) = finding.network?;
            (start..=end).contains(&address).then_some((size((start, end)), finding))
        });
        let (_, shared) = around.min_by_key(|(size, _)| *size)?;
        Some(Finding { address, ..shared.clone() })
    }

    fn keep(&self, finding: &Finding) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.pop_front();
        }
        kept.push_back(finding.clone());
    }
}

/// A range as networks are written, if it is one.
#[must_use]
pub fn written((start, end): (IpAddr, IpAddr)) -> String {
    let longest = if start.is_ipv4() { 32 } else { 128 };
    let network =
        (0..=longest).filter_map(|length| Prefix::new(start, length)).find(|network| network.range() == (start, end));
    network.map_or_else(|| format!("{start} - {end}"), |network| network.to_string())
}
