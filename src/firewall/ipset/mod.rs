//! Bans by ipset, for hosts where only iptables is at home.
//!
//! Per jail and family one set `hash:net` with timeouts, `sekimori-JAIL4` and `…6`, spoken to
//! by netlink; the rules that look into them are in [`rules`]. ipset knows no transactions:
//! what stands before a refused element is in effect, so the refused one is left out and the
//! rest sent again.
//!
//! Nobody tells when others change sets or rules. The kernel's count of the rules that look into
//! a set says whether ours are there; an element that is in each set from its beginning,
//! and that nobody can have as an address, says whether the set was emptied.

mod encode;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::encode::{Element, Header};
use self::rules::{Family, Present, Rules};
use super::names::plain;
use super::net_effect::{self, JailEffect, Wanted};
use super::netlink::{EINVAL, ENOENT, EPERM, Messages, Refusal, Socket};
use super::{Change, Damage, Error, Firewall, Held, Listing, Scope};
use crate::address::Prefix;

/// Elements in one message; their attribute holds 64 KiB at most.
const BATCH: usize = 1000;
/// Bytes of one element at most.
const ELEMENT: usize = 56;
/// Elements read by [`Firewall::banned`].
const LISTED: usize = 65_536;
/// Longest timeout, in seconds. A longer ban stays until it is lifted by us.
const LONGEST: u64 = 2_147_483;
/// Names of sets have 31 letters: this, what is left of the jail's name, and the family.
const PREFIX: &str = "sekimori-";
const LONGEST_NAME: usize = 31 - PREFIX.len() - 1;
/// How often the rules are read by a program although the kernel counts them.
const SAFETY_NET: Duration = Duration::from_secs(30);
/// How often, and after what pauses, the end of a set is tried that rules held a moment ago.
const TRIES: u32 = 12;

/// How to open; the default is what the daemon wants. What a host may lack can be switched
/// off, which is how the ways around it are tested.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bans in one set, a guard for the kernel's memory.
    pub limit: u32,
    /// Whether jails that drop may use the table `raw`, before conntrack and DNAT.
    pub raw: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { limit: 1 << 20, raw: true }
    }
}

/// See the module.
pub struct Ipset {
    socket: Socket,
    sequence: u32,
    options: Options,
    /// Newest revision of our type.
    revision: u8,
    /// IPv4, and IPv6 where there is `ip6tables`.
    families: Vec<Family>,
    /// Why there is no IPv6.
    no_v6: Option<String>,
    jails: BTreeMap<Arc<str>, Scope>,
    /// Rules as they were put up, by family.
    standing: BTreeMap<bool, Rules>,
    /// Whether jails were announced; until then what an earlier run left stays.
    begun: bool,
    damage: Option<Damage>,
    looked: Instant,
}

impl Ipset {
    /// Finds out what the host has; sets and rules that an earlier run left go on shutting out
    /// until the first jails are announced.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, without ipset in the kernel, or without iptables.
    pub fn open(options: Options) -> Result<Ipset, Error> {
        let socket =
            Socket::open(true).map_err(|source| Error::Kernel { what: "cannot open netlink".to_owned(), source })?;
        let mut this = Ipset {
            socket,
            sequence: 0,
            options,
            revision: 0,
            families: vec![Family { v6: false }],
            no_v6: None,
            jails: BTreeMap::new(),
            standing: BTreeMap::new(),
            begun: false,
            damage: None,
            looked: Instant::now(),
        };
        let request = this.encode(encode::ask_type);
        let asked = this.socket.ask(&request, |message| {
            this.revision = encode::revision(&message).unwrap_or(0);
            false
        });
        match asked.map_err(|source| Error::Kernel { what: "cannot ask ipset".to_owned(), source })? {
            Ok(()) => {}
            Err(refusal) if refusal.error == EPERM => return Err(Error::Permission("ipset")),
            Err(refusal) => {
                let what = "the kernel has no ipset with sets of type hash:net".to_owned();
                return Err(Error::Kernel { what, source: reason(&refusal) });
            }
        }
        this.families[0].has("filter")?;
        this.options.raw &= this.families[0].has("raw").is_ok();
        let v6 = Family { v6: true };
        match v6.has("filter") {
            Ok(()) => this.families.push(v6),
            Err(error) => this.no_v6 = Some(error.to_string()),
        }
        Ok(this)
    }

    fn encode(&mut self, write: impl FnOnce(&mut Messages)) -> Messages {
        let mut messages = Messages::after(self.sequence);
        write(&mut messages);
        self.sequence = messages.sequence;
        messages
    }

    /// Sends one message; its refusal, if it was not carried out.
    fn send(&mut self, write: impl FnOnce(&mut Messages)) -> Result<Option<Refusal>, Error> {
        let messages = self.encode(write);
        let refusals = self.socket.exchange(&messages);
        let refusal = refusals
            .map_err(|source| Error::Kernel { what: "cannot send to ipset".to_owned(), source })?
            .into_iter()
            .next();
        match refusal {
            Some(refusal) if refusal.error == EPERM => Err(Error::Permission("ipset")),
            other => Ok(other),
        }
    }

    /// The sets whose names are like ours.
    fn headers(&mut self) -> Result<BTreeMap<String, Header>, Error> {
        let mut headers = BTreeMap::new();
        let request = self.encode(encode::ask_headers);
        let asked = self.socket.ask(&request, |message| {
            if let Some(header) = encode::header(&message).filter(|header| header.name.starts_with(PREFIX)) {
                headers.insert(header.name.clone(), header);
            }
            true
        });
        match asked.map_err(|source| Error::Kernel { what: "cannot list sets of ipset".to_owned(), source })? {
            Ok(()) => Ok(headers),
            Err(refusal) => {
                Err(Error::Kernel { what: "cannot list sets of ipset".to_owned(), source: reason(&refusal) })
            }
        }
    }

    /// Sees to it that a jail's sets are there; those that are keep their bans.
    fn make_sets(&mut self, jail: &str, headers: &BTreeMap<String, Header>) -> Result<(), Error> {
        for family in self.families.clone() {
            let name = set_name(jail, family.v6);
            if let Some(header) = headers.get(&name) {
                if !header.fits || header.v6 != family.v6 {
                    return Err(Error::Foreign(name));
                }
            } else {
                let (revision, limit) = (self.revision, self.options.limit);
                // The element below takes a place of its own.
                let limit = limit.saturating_add(1);
                if let Some(refusal) = self.send(|m| encode::create(m, &name, family.v6, revision, limit))? {
                    return Err(Error::Kernel {
                        what: format!("cannot make set `{name}` of ipset"),
                        source: reason(&refusal),
                    });
                }
            }
            self.mark(&name, family.v6)?;
        }
        Ok(())
    }

    /// Puts the element into a set that says that nobody emptied it.
    fn mark(&mut self, name: &str, v6: bool) -> Result<(), Error> {
        let mark = Element { prefix: mark(v6), seconds: Some(0) };
        match self.send(|m| encode::change(m, name, &[mark]))? {
            None => Ok(()),
            Some(refusal) => {
                Err(Error::Kernel { what: format!("cannot use set `{name}` of ipset"), source: reason(&refusal) })
            }
        }
    }

    fn flush_sets(&mut self, jail: &str) -> Result<(), Error> {
        for family in self.families.clone() {
            let name = set_name(jail, family.v6);
            if let Some(refusal) = self.send(|m| encode::about(m, encode::FLUSH, &name))? {
                return Err(Error::Kernel {
                    what: format!("cannot empty set `{name}` of ipset"),
                    source: reason(&refusal),
                });
            }
            self.mark(&name, family.v6)?;
        }
        Ok(())
    }

    /// Ends all sets whose names are like ours, but for those of jails.
    fn sweep_sets(&mut self) -> Result<(), Error> {
        let wanted: BTreeSet<String> =
            self.jails.keys().flat_map(|jail| [set_name(jail, false), set_name(jail, true)]).collect();
        let mut first = Ok(());
        for (name, header) in self.headers()? {
            // What is not of our type is not ours, whatever its name says.
            if wanted.contains(&name) || !header.fits {
                continue;
            }
            if let Err(error) = self.end_set(&name) {
                first = first.and(Err(error));
            }
        }
        first
    }

    fn end_set(&mut self, name: &str) -> Result<(), Error> {
        self.send(|m| encode::about(m, encode::FLUSH, name))?;
        // The kernel lets go of a set some time after the last rule that looked into it.
        let mut pause = Duration::from_micros(200);
        for attempt in 1.. {
            match self.send(|m| encode::about(m, encode::DESTROY, name))? {
                None => break,
                Some(refusal) if refusal.error == ENOENT => break,
                Some(refusal) if refusal.error == encode::BUSY && attempt < TRIES => {}
                Some(refusal) => {
                    return Err(Error::Kernel {
                        what: format!("cannot end set `{name}` of ipset"),
                        source: reason(&refusal),
                    });
                }
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        Ok(())
    }

    /// Puts up the rules of the jails in place of what is there.
    fn put_up_rules(&mut self) -> Result<(), Error> {
        for family in self.families.clone() {
            let sets: Vec<(String, &Scope)> =
                self.jails.iter().map(|(jail, scope)| (set_name(jail, family.v6), scope)).collect();
            let rules = Rules::of(family, self.options.raw, sets.iter().map(|(set, scope)| (set.as_str(), *scope)));
            let text = rules.restore(&family.present()?);
            if !text.is_empty() {
                family.restore(&text)?;
            }
            self.standing.insert(family.v6, rules);
        }
        Ok(())
    }

    /// Whether sets and rules stand as they ought to, as far as the kernel can be asked.
    fn intact(&mut self) -> Result<bool, Error> {
        let headers = self.headers()?;
        Ok(self.jails.keys().all(|jail| {
            self.families.iter().all(|family| {
                let name = set_name(jail, family.v6);
                let references = self.standing.get(&family.v6).map_or(0, |rules| rules.references(&name));
                headers.get(&name).is_some_and(|h| h.elements != Some(0) && h.references >= references)
            })
        }))
    }

    /// Puts up again whatever is missing.
    fn rebuild(&mut self) -> Result<(), Error> {
        let headers = self.headers()?;
        for jail in self.jails.keys().cloned().collect::<Vec<_>>() {
            self.make_sets(&jail, &headers)?;
        }
        self.put_up_rules()
    }

    /// Brings and takes elements of one set; those that were refused, with the reason.
    fn change_set(&mut self, name: &str, elements: &[Element]) -> Result<Vec<(usize, Refusal)>, Error> {
        let mut refused = Vec::new();
        let most = BATCH.min((self.socket.room / ELEMENT).max(1));
        let mut rest = 0;
        while rest < elements.len() {
            let some = &elements[rest..elements.len().min(rest + most)];
            // All of one message come or all go.
            let alike = some.iter().take_while(|e| e.seconds.is_some() == some[0].seconds.is_some()).count();
            match self.send(|m| encode::change(m, name, &some[..alike]))? {
                None => rest += alike,
                Some(refusal) => match encode::refused_line(&refusal).filter(|line| *line < alike) {
                    Some(line) => {
                        refused.push((rest + line, refusal));
                        rest += line + 1;
                    }
                    None => {
                        let what = format!("cannot change set `{name}` of ipset");
                        return Err(Error::Kernel { what, source: reason(&refusal) });
                    }
                },
            }
        }
        Ok(refused)
    }

    fn change_sets(&mut self, effects: &BTreeMap<Arc<str>, JailEffect>) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        for (jail, effect) in effects {
            for v6 in [false, true] {
                let mut wanted: Vec<(usize, Element)> = effect
                    .prefixes
                    .iter()
                    .filter(|(prefix, _)| prefix.address().is_ipv6() == v6)
                    .map(|(prefix, last)| (last.change, Element { prefix: *prefix, seconds: seconds(last.wanted) }))
                    .collect();
                wanted.sort_by_key(|(change, element)| (element.seconds.is_some(), *change));
                if !self.families.iter().any(|family| family.v6 == v6) {
                    let program = "ip6tables".to_owned();
                    let text = self.no_v6.clone().unwrap_or_default();
                    failed.extend(
                        wanted.iter().filter(|(_, element)| element.seconds.is_some()).map(|(change, _)| {
                            (*change, Error::Program { program: program.clone(), text: text.clone() })
                        }),
                    );
                    continue;
                }
                let elements: Vec<Element> = wanted.iter().map(|(_, element)| *element).collect();
                for (index, refusal) in self.change_set(&set_name(jail, v6), &elements)? {
                    let (change, element) = wanted[index];
                    if element.seconds.is_some() {
                        failed.push((change, element_error(jail, element.prefix, &refusal)));
                    }
                }
            }
        }
        Ok(failed)
    }
}

impl Firewall for Ipset {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        // A jail whose sets cannot be had is as if it had not been announced.
        let mut refused: BTreeSet<&Arc<str>> = BTreeSet::new();
        let mut headers = None;
        for (index, change) in changes.iter().enumerate() {
            let Change::Jail { name, .. } = change else { continue };
            if self.jails.contains_key(name) || refused.contains(name) {
                continue;
            }
            if headers.is_none() {
                headers = Some(self.headers()?);
            }
            match self.make_sets(name, headers.as_ref().unwrap_or(&BTreeMap::new())) {
                Ok(()) => {}
                Err(error @ Error::Permission(_)) => return Err(error),
                Err(error) => {
                    refused.insert(name);
                    failed.push((index, error));
                }
            }
        }
        let (kept, places): (Vec<Change>, Vec<usize>) = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| !(refused.contains(change.jail()) && matches!(change, Change::Jail { .. })))
            .map(|(index, change)| (change.clone(), index))
            .unzip();
        let (effects, strangers) = net_effect::of(&kept, |name| self.jails.contains_key(name));

        let announces = effects.values().any(|effect| effect.scope.is_some());
        let mut before = None;
        if announces || effects.values().any(|effect| effect.removed) {
            let mut jails = self.jails.clone();
            for (name, effect) in &effects {
                if effect.removed {
                    jails.remove(name);
                }
                if let Some(scope) = &effect.scope {
                    jails.insert(name.clone(), scope.clone());
                }
            }
            before = Some(std::mem::replace(&mut self.jails, jails));
        }
        let rules_change = before.as_ref().is_some_and(|before| *before != self.jails) || (announces && !self.begun);
        let there: BTreeMap<Arc<str>, JailEffect> =
            effects.into_iter().filter(|(name, _)| self.jails.contains_key(name)).collect();
        let was_there = |name: &Arc<str>| before.as_ref().is_some_and(|before| before.contains_key(name));
        let flushed = there.iter().filter(|(name, effect)| effect.flushed || (effect.removed && was_there(name)));
        let flushed: Vec<Arc<str>> = flushed.map(|(name, _)| name.clone()).collect();
        let work = |this: &mut Ipset| {
            flushed.iter().try_for_each(|name| this.flush_sets(name))?;
            let failed = this.change_sets(&there)?;
            if rules_change {
                this.put_up_rules()?;
            }
            Ok(failed)
        };
        let mut done = work(self);
        if done.is_err() && !self.intact()? {
            // Somebody took sets away; put up what ought to be there and try once more.
            self.damage.get_or_insert(Damage { by: None });
            done = self.rebuild().and_then(|()| work(self));
        }
        match done {
            Ok(more) => failed.extend(more.into_iter().map(|(index, error)| (places[index], error))),
            Err(error) => {
                if let Some(before) = before {
                    self.jails = before;
                }
                return Err(error);
            }
        }
        if rules_change {
            self.begun |= announces;
            // What somebody else still looks into is empty at least, and tried again with the next.
            let _ = self.sweep_sets();
        }
        failed.extend(strangers.into_iter().map(|index| (places[index], Error::NoJail(kept[index].jail().clone()))));
        failed.sort_by_key(|(index, _)| *index);
        Ok(failed)
    }

    fn banned(&mut self) -> Result<Listing, Error> {
        let mut listing = Listing { bans: Vec::new(), complete: true };
        for jail in self.jails.keys() {
            for family in &self.families {
                let name = set_name(jail, family.v6);
                let error = |source| Error::Kernel { what: format!("cannot read set `{name}` of ipset"), source };
                // A socket of its own: a dump that is not read to its end would stay in the way.
                let mut socket = Socket::open(true).map_err(error)?;
                let mut request = Messages::after(0);
                encode::ask_elements(&mut request, &name);
                let asked = socket.ask(&request, |message| {
                    for element in encode::elements(&message).filter(|e| e.prefix != mark(family.v6)) {
                        if listing.bans.len() == LISTED {
                            listing.complete = false;
                            return false;
                        }
                        let seconds = element.seconds.filter(|seconds| *seconds > 0).map(f64::from);
                        listing.bans.push(Held { jail: jail.clone(), prefix: element.prefix, seconds });
                    }
                    true
                });
                if let Err(refusal) = asked.map_err(error)? {
                    return Err(error(reason(&refusal)));
                }
            }
        }
        Ok(listing)
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.jails.clear();
        let rules = self.put_up_rules();
        self.standing.clear();
        self.begun = false;
        rules.and(self.sweep_sets())
    }

    fn heal(&mut self) -> Result<Option<Damage>, Error> {
        if !self.begun {
            return Ok(None);
        }
        let mut intact = self.intact()?;
        if intact && self.looked.elapsed() >= SAFETY_NET {
            self.looked = Instant::now();
            for family in self.families.clone() {
                let present: Present = family.present()?;
                intact &= self.standing.get(&family.v6).is_none_or(|rules| rules.stand(&present));
            }
        }
        if !intact {
            self.rebuild()?;
            self.damage.get_or_insert(Damage { by: None });
        }
        Ok(self.damage.take())
    }

    fn describe(&self) -> String {
        let table = if self.options.raw { "raw" } else { "filter" };
        let v6 = if self.no_v6.is_some() { ", no IPv6: ip6tables does not work" } else { "" };
        format!("ipset, sets {PREFIX}* of type hash:net revision {}, rules in {table}{v6}", self.revision)
    }
}

/// The name of a jail's set.
fn set_name(jail: &str, v6: bool) -> String {
    format!("{PREFIX}{}{}", plain(jail, LONGEST_NAME), if v6 { 6 } else { 4 })
}

/// The broadcast address, and the last multicast address: no packet comes from there.
fn mark(v6: bool) -> Prefix {
    Prefix::host(if v6 { [0xff; 16].into() } else { [0xff; 4].into() })
}

/// The timeout of a ban, nothing if it shall go.
fn seconds(wanted: Wanted) -> Option<u32> {
    match wanted {
        Wanted::Free => None,
        Wanted::Banned(milliseconds) => {
            let seconds = milliseconds.div_ceil(1000);
            Some(if seconds > LONGEST { 0 } else { seconds as u32 })
        }
    }
}

fn element_error(jail: &Arc<str>, prefix: Prefix, refusal: &Refusal) -> Error {
    if refusal.error == encode::FULL {
        return Error::Full(jail.clone());
    }
    Error::Kernel { what: format!("cannot ban {prefix} in jail `{jail}`"), source: reason(refusal) }
}

/// The kernel's answer in words; ipset has error numbers of its own.
fn reason(refusal: &Refusal) -> io::Error {
    match refusal.error {
        encode::NO_TYPE => io::Error::other("the kernel does not know this type of set"),
        encode::BUSY => io::Error::other("rules look into it; list them with `iptables-save | grep match-set`"),
        encode::BAD_LENGTH => io::Error::other("ipset holds no network of this size"),
        encode::FULL => io::Error::other("the set is full"),
        EINVAL => io::Error::other("not supported by the kernel; is the module `ip_set_hash_net` there?"),
        error if error > 4095 => io::Error::other(format!("error {error} of ipset")),
        error => io::Error::from_raw_os_error(error),
    }
}
