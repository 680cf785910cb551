//! Bans by nftables: a table `inet sekimori` of our own, spoken to by netlink.
//!
//! ```text
//! prerouting, priority -310   neighbour discovery passes; all-ports jails; port -> chain
//! on-dovecot/postfix          the look-ups of the jails that cover these ports
//! sshd4, sshd6, sshd4.24      hash sets with timeouts: hosts, and networks by their length
//! reject, reset               answers, limited in rate
//! ```
//!
//! Before raw, conntrack and anybody's DNAT, so that ports of containers are covered too.
//! Where the kernel has table ownership that outlives us (`owner`, `persist`), nobody else
//! can flush the table; elsewhere a monitor sees it and the table is put up again.

mod encode;
mod kernel;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::encode::{DELSETELEM, DESTROYSETELEM, Encoder, FIXED_CHAINS, MAP_NAME, NEWSETELEM, PORTS};
use self::kernel::{Existing, Kernel};
use self::ruleset::{Class, Jail, Ruleset, set_name};
use super::net_effect::{self, JailEffect, Wanted};
use super::netlink::{ENFILE, ENOENT, ENOMEM, Messages, Refusal};
use super::{Change, Damage, Error, Firewall, Held, Listing};
use crate::address::Prefix;

/// Elements in one transaction; more are hardly cheaper and hold the kernel's lock longer.
const BATCH: usize = 1000;
/// Elements in a transaction that finds out which of them are guilty, each a message of its
/// own; as many refusals fit into any receive buffer.
const SINGLE: usize = 128;
/// Bytes of one element at most, three times over for the kernels that prolong by replacing.
const ELEMENT: usize = 3 * 56;
/// Elements read by [`Firewall::banned`].
const LISTED: usize = 65_536;
/// How often a table without owner is looked at although no event came.
const SAFETY_NET: Duration = Duration::from_secs(30);

/// How to open; the default is what the daemon wants. What a kernel may lack can be switched
/// off, which is how the ways around it are tested.
#[derive(Clone, Debug)]
pub struct Options {
    /// The table's name, plain letters and digits.
    pub table: String,
    /// Where in prerouting; lower is earlier.
    pub priority: i32,
    /// Most bans in one set, a guard for the kernel's memory.
    pub limit: u32,
    /// Whether the table may be owned.
    pub own: bool,
    /// Whether bans may be prolonged in place.
    pub prolong: bool,
    /// Whether elements may be deleted that need not be there.
    pub destroy: bool,
    /// Whether the kernel may answer from prerouting.
    pub reject: bool,
    /// Whether the kernel may say which element it refuses.
    pub offsets: bool,
    /// Bytes of events that may wait for [`Firewall::heal`].
    pub events: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            table: "sekimori".to_owned(),
            priority: -310,
            limit: 1 << 20,
            own: true,
            prolong: true,
            destroy: true,
            reject: true,
            offsets: true,
            events: 1 << 20,
        }
    }
}

/// See the module.
pub struct Nftables {
    kernel: Kernel,
    options: Options,
    jails: BTreeMap<Arc<str>, Jail>,
    current: Arc<Ruleset>,
    /// What an earlier run left, until the first jails are announced.
    left: Option<Existing>,
    damage: Option<Damage>,
    looked: Instant,
}

/// One element to bring or take.
struct Element<'a> {
    set: &'a str,
    jail: &'a Arc<str>,
    prefix: Prefix,
    wanted: Wanted,
    change: usize,
}

impl Nftables {
    /// Opens the kernel's nftables, finds out what it can do, and takes the table over if an
    /// earlier run left it: it goes on shutting out until the first jails are announced.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, without nf_tables in the kernel, or if another process owns the table.
    pub fn open(options: Options) -> Result<Nftables, Error> {
        let (mut kernel, options) = Kernel::open(&options)?;
        let left = kernel.existing()?;
        kernel.take(left.is_some())?;
        let mut this = Nftables {
            kernel,
            options,
            jails: BTreeMap::new(),
            current: Arc::default(),
            left: None,
            damage: None,
            looked: Instant::now(),
        };
        match left {
            Some(left) => this.left = Some(left),
            None => this.rebuild()?,
        }
        Ok(this)
    }

    /// Puts the rules of all jails up, whatever is there now; bans that are there stay.
    fn rebuild(&mut self) -> Result<(), Error> {
        let existing = self.kernel.existing()?;
        self.kernel.take(existing.is_some())?;
        let existing = existing.unwrap_or_default();
        let new = Ruleset::of(&self.jails);
        self.commit(&[], |e, limit, priority| replace(e, &existing, &new, limit, priority))?;
        self.current = Arc::new(new);
        self.left = None;
        Ok(())
    }

    /// Sends structure and elements in one transaction after the other, the structure first.
    ///
    /// Elements that the kernel does not want are dropped and returned.
    fn commit(
        &mut self,
        elements: &[Element<'_>],
        structure: impl Fn(&mut Encoder<'_>, u32, i32),
    ) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        let mut rest: &[Element<'_>] = elements;
        let mut first = true;
        let mut messages = Messages::after(self.kernel.sequence);
        let most = BATCH.min((self.kernel.room() / ELEMENT).max(1));
        while first || !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(most));
            let mut parts: Vec<&Element<'_>> = chunk.iter().collect();
            let mut single = false;
            let mut tries = 0;
            // Refused elements are left out and the others tried again. At the second attempt each
            // element is a message of its own, so that the kernel names all the guilty at once.
            while !parts.is_empty() || first {
                let some = if single { parts.len().min(SINGLE) } else { parts.len() };
                messages.clear();
                let mut encoder =
                    Encoder { to: &mut messages, table: &self.options.table, reject: self.options.reject };
                encoder.batch_begin();
                if first {
                    structure(&mut encoder, self.options.limit, self.options.priority);
                }
                let spots = encode_elements(&mut encoder, &parts[..some], &self.options, single);
                encoder.to.acknowledge_last();
                encoder.batch_end();
                self.kernel.sequence = messages.sequence;
                let refusals = self.kernel.exchange(&messages)?;
                if refusals.is_empty() {
                    first = false;
                    parts.drain(..some);
                    continue;
                }
                let mut guilty = BTreeMap::new();
                let mut unclear = false;
                for refusal in &refusals {
                    let offset = refusal.offset.filter(|_| self.options.offsets);
                    match spots.iter().find(|spot| spot.sequence == refusal.sequence) {
                        Some(spot) if spot.element_at(offset).is_some() => {
                            guilty.extend(spot.element_at(offset).map(|index| (index, refusal)));
                        }
                        Some(_) if offset.is_none() && !single => unclear = true,
                        // An old kernel says the same of a missing element and of a missing table.
                        Some(spot) if offset.is_none() && self.intact()? => {
                            guilty.insert(spot.first, refusal);
                        }
                        _ if refusal.error == ENOMEM && tries < 3 => {}
                        _ => return Err(refused("change the table", refusal, &self.options.table)),
                    }
                }
                tries += 1;
                single = unclear || !guilty.is_empty();
                for (index, refusal) in guilty.into_iter().rev() {
                    let element = parts.remove(index);
                    let gone = element.wanted == Wanted::Free && refusal.error == ENOENT;
                    if !gone {
                        failed.push((element.change, element_error(element, refusal)));
                    }
                }
            }
            rest = after;
        }
        failed.sort_by_key(|(change, _)| *change);
        failed.dedup_by_key(|(change, _)| *change);
        Ok(failed)
    }

    /// Whether table, sets and rules stand as they ought to.
    fn intact(&mut self) -> Result<bool, Error> {
        let Some(existing) = self.kernel.existing()? else { return Ok(false) };
        let rules = 8
            + usize::from(!self.current.segments.is_empty())
            + self.current.everywhere.len()
            + self.current.chains.values().map(Vec::len).sum::<usize>();
        Ok(existing.handle == self.kernel.handle
            && self.current.sets.keys().all(|set| existing.sets.contains_key(set))
            && self.current.chains.keys().all(|chain| existing.chains.contains_key(chain))
            && FIXED_CHAINS.iter().all(|chain| existing.chains.contains_key(*chain))
            && existing.rules >= rules)
    }

    /// `jails` is what there is to be afterwards, nothing if that is what there is now.
    fn try_apply(
        &mut self,
        effects: &BTreeMap<Arc<str>, JailEffect>,
        jails: Option<&BTreeMap<Arc<str>, Jail>>,
    ) -> Result<Vec<(usize, Error)>, Error> {
        let old = self.current.clone();
        let new = jails.map_or_else(|| old.clone(), |jails| Arc::new(Ruleset::of(jails)));
        let (elements, flushed) = elements(effects, jails.unwrap_or(&self.jails), &new);
        let replaced: BTreeSet<&str> = effects
            .iter()
            .filter(|(_, effect)| effect.removed && effect.scope.is_some())
            .filter_map(|(name, _)| self.jails.get(name).map(|jail| (name, jail)))
            .flat_map(|(name, jail)| jail.classes.iter().map(|class| set_name(name, *class)))
            .filter_map(|set| new.sets.get_key_value(&set).map(|(set, _)| set.as_str()))
            .chain(flushed)
            .collect();
        let announces = effects.values().any(|effect| effect.scope.is_some());
        let left = if announces { self.left.take() } else { None };
        let result = self.commit(&elements, |e, limit, priority| {
            match &left {
                Some(existing) => replace(e, existing, &new, limit, priority),
                None if jails.is_some() => differ(e, &old, &new, limit),
                None => {}
            }
            for set in &replaced {
                if old.sets.contains_key(*set) {
                    e.flush_set(set);
                }
            }
        });
        if result.is_err() {
            self.left = left;
            return result;
        }
        self.current = new;
        result
    }
}

/// The jails as they are to be; nothing if no set, chain or rule has to change for it, which is so
/// with almost every ban.
fn changed_jails(
    jails: &BTreeMap<Arc<str>, Jail>,
    effects: &BTreeMap<Arc<str>, JailEffect>,
) -> Option<BTreeMap<Arc<str>, Jail>> {
    let banned = |effect: &JailEffect| {
        let banned = effect.prefixes.iter().filter(|(_, last)| last.wanted != Wanted::Free);
        banned.map(|(prefix, _)| class(*prefix)).collect::<BTreeSet<Class>>()
    };
    let stays = |(name, effect): (&Arc<str>, &JailEffect)| {
        let known = |jail: &Jail| banned(effect).is_subset(&jail.classes);
        !effect.removed && effect.scope.is_none() && jails.get(name).is_none_or(known)
    };
    if effects.iter().all(stays) {
        return None;
    }
    let mut jails = jails.clone();
    for (name, effect) in effects {
        if effect.removed {
            jails.remove(name);
        }
        if let Some(scope) = &effect.scope {
            let jail = jails.entry(name.clone());
            jail.or_insert_with(|| Jail { scope: scope.clone(), classes: Class::HOSTS.into() }).scope = scope.clone();
        }
        if let Some(jail) = jails.get_mut(name) {
            jail.classes.extend(banned(effect));
        }
    }
    Some(jails)
}

impl Firewall for Nftables {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, Error)>, Error> {
        let (effects, strangers) = net_effect::of(changes, |name| self.jails.contains_key(name));
        let jails = changed_jails(&self.jails, &effects);
        let mut failed = match self.try_apply(&effects, jails.as_ref()) {
            // Somebody took the table away; put up what was there and try once more.
            Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(ENOENT) && !self.intact()? => {
                self.rebuild()?;
                self.damage.get_or_insert(Damage { by: None });
                self.try_apply(&effects, jails.as_ref())?
            }
            other => other?,
        };
        if let Some(jails) = jails {
            self.jails = jails;
        }
        failed.extend(strangers.into_iter().map(|index| (index, Error::NoJail(changes[index].jail().clone()))));
        failed.sort_by_key(|(index, _)| *index);
        Ok(failed)
    }

    fn banned(&mut self) -> Result<Listing, Error> {
        let mut listing = Listing { bans: Vec::new(), complete: true };
        for (name, jail) in &self.jails {
            for class in &jail.classes {
                let set = set_name(name, *class);
                let room = LISTED.saturating_sub(listing.bans.len());
                listing.complete &= self.kernel.read_set(&set, *class, room, |prefix, seconds| {
                    listing.bans.push(Held { jail: name.clone(), prefix, seconds });
                })?;
            }
        }
        Ok(listing)
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.kernel.delete_table()?;
        self.jails.clear();
        self.current = Arc::default();
        self.left = None;
        Ok(())
    }

    fn heal(&mut self) -> Result<Option<Damage>, Error> {
        if self.left.is_some() {
            return Ok(None);
        }
        let events = self.kernel.events()?;
        let due = self.looked.elapsed() >= SAFETY_NET && !self.kernel.owned;
        if events.rules || events.map || due {
            self.looked = Instant::now();
            if events.map || !self.intact()? {
                self.rebuild()?;
                self.damage.get_or_insert(Damage { by: None });
            }
        }
        if events.bans {
            self.damage.get_or_insert(Damage { by: None });
        }
        if let Some(damage) = &mut self.damage {
            damage.by = damage.by.take().or(events.by);
        }
        Ok(self.damage.take())
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.kernel.monitor.as_ref().map(AsFd::as_fd)
    }

    fn describe(&self) -> String {
        let can = [
            (self.kernel.owned, "owner"),
            (self.options.prolong, "prolongs in place"),
            (self.options.destroy, "destroys elements"),
            (self.options.reject, "rejects"),
        ];
        let can: Vec<_> = can.into_iter().filter_map(|(can, word)| can.then_some(word)).collect();
        format!("nftables, table inet {} ({})", self.options.table, can.join(", "))
    }
}

fn class(prefix: Prefix) -> Class {
    Class { v6: prefix.address().is_ipv6(), length: prefix.length() }
}

/// The elements to bring and take, and the sets to flush before.
fn elements<'a>(
    effects: &'a BTreeMap<Arc<str>, JailEffect>,
    jails: &BTreeMap<Arc<str>, Jail>,
    new: &'a Ruleset,
) -> (Vec<Element<'a>>, Vec<&'a str>) {
    let (mut elements, mut flushed) = (Vec::new(), Vec::new());
    for (name, effect) in effects {
        let Some(jail) = jails.get(name) else { continue };
        let mut sets: BTreeMap<Class, &str> = BTreeMap::new();
        for class in &jail.classes {
            if let Some((set, class)) = new.sets.get_key_value(&set_name(name, *class)) {
                sets.insert(*class, set);
            }
        }
        if effect.flushed {
            flushed.extend(sets.values());
        }
        for (prefix, last) in &effect.prefixes {
            let Some(set) = sets.get(&class(*prefix)) else { continue };
            elements.push(Element { set, jail: name, prefix: *prefix, wanted: last.wanted, change: last.change });
        }
    }
    elements.sort_by_key(|e| (e.set, e.wanted == Wanted::Free, e.change));
    (elements, flushed)
}

/// Where in a message elements stand.
struct Spot {
    sequence: u32,
    /// Index of the first element.
    first: usize,
    /// Where the first begins, and where each ends.
    bounds: Vec<usize>,
}

impl Spot {
    /// The element an offset points into; none for what stands before the first, which is
    /// the name of a table or set that is gone.
    fn element_at(&self, offset: Option<usize>) -> Option<usize> {
        let offset = offset?;
        let index = self.bounds.partition_point(|bound| *bound <= offset).checked_sub(1)?;
        (index + 1 < self.bounds.len()).then_some(self.first + index)
    }
}

fn encode_elements(encoder: &mut Encoder<'_>, elements: &[&Element<'_>], options: &Options, single: bool) -> Vec<Spot> {
    let mut spots = Vec::new();
    let mut first = 0;
    let alike = |a: &&Element<'_>, b: &&Element<'_>| {
        !single && a.set == b.set && (a.wanted == Wanted::Free) == (b.wanted == Wanted::Free)
    };
    for group in elements.chunk_by(alike) {
        let kinds: &[u16] = match group[0].wanted {
            Wanted::Banned(_) if options.prolong => &[NEWSETELEM],
            // Brought, so that it is there, taken, and brought with the new time: no packet sees
            // the moment between, and an element that was not there is no error.
            Wanted::Banned(_) => &[NEWSETELEM, DELSETELEM, NEWSETELEM],
            Wanted::Free if options.destroy => &[DESTROYSETELEM],
            Wanted::Free => &[DELSETELEM],
        };
        for kind in kinds {
            let mut bounds = Vec::with_capacity(group.len() + 1);
            let values = group.iter().map(|e| match e.wanted {
                Wanted::Banned(milliseconds) if *kind == NEWSETELEM => (&e.prefix, Some(milliseconds)),
                _ => (&e.prefix, None),
            });
            let sequence = encoder.elements(*kind, group[0].set, values, |bound| bounds.push(bound));
            spots.push(Spot { sequence, first, bounds });
        }
        first += group.len();
    }
    spots
}

/// From one ruleset of ours to another, touching only what differs.
fn differ(e: &mut Encoder<'_>, old: &Ruleset, new: &Ruleset, limit: u32) {
    for (set, class) in &new.sets {
        if !old.sets.contains_key(set) {
            e.new_set(set, *class, limit);
        }
    }
    for (chain, lookups) in &new.chains {
        let before = old.chains.get(chain);
        if before == Some(lookups) {
            continue;
        }
        match before {
            Some(_) => e.flush_chain(Some(chain)),
            None => e.new_chain(chain),
        };
        lookups.iter().for_each(|lookup| {
            e.lookup_rule(chain, lookup);
        });
    }
    for (segment, chain) in &old.segments {
        if new.segments.get(segment) != Some(chain) {
            e.segment(*segment, None);
        }
    }
    for (segment, chain) in &new.segments {
        if old.segments.get(segment) != Some(chain) {
            e.segment(*segment, Some(chain));
        }
    }
    if old.everywhere != new.everywhere || old.segments.is_empty() != new.segments.is_empty() {
        FIXED_CHAINS.iter().for_each(|chain| {
            e.flush_chain(Some(chain));
        });
        base_rules(e, new);
    }
    for chain in old.chains.keys().filter(|chain| !new.chains.contains_key(*chain)) {
        e.flush_chain(Some(chain));
        e.delete_chain(chain);
    }
    for set in old.sets.keys().filter(|set| !new.sets.contains_key(*set)) {
        e.delete_set(set);
    }
}

/// From whatever stands in the table to a ruleset; sets that fit keep their bans.
fn replace(e: &mut Encoder<'_>, existing: &Existing, new: &Ruleset, limit: u32, priority: i32) {
    e.flush_chain(None);
    let map_fits = existing.sets.get(MAP_NAME) == Some(&(PORTS, 8));
    if map_fits {
        e.flush_set(MAP_NAME);
    }
    let fits = |set: &str| match new.sets.get(set) {
        Some(class) => existing.sets.get(set) == Some(&(encode::BANS, class.bytes() as u32)),
        None => set == MAP_NAME && map_fits,
    };
    for set in existing.sets.keys().filter(|set| !fits(set)) {
        e.delete_set(set);
    }
    let wanted = |chain: &str| new.chains.contains_key(chain) || FIXED_CHAINS.contains(&chain);
    for (chain, hook) in &existing.chains {
        if !wanted(chain) || *hook != (chain == encode::BASE).then_some(priority) {
            e.delete_chain(chain);
        }
    }
    e.base_chain(priority);
    FIXED_CHAINS[1..].iter().for_each(|chain| {
        e.new_chain(chain);
    });
    if !map_fits {
        e.new_map();
    }
    let empty = Ruleset {
        sets: existing.sets.keys().filter(|s| fits(s)).map(|s| (s.clone(), Class::HOSTS[0])).collect(),
        ..Ruleset::default()
    };
    for (set, class) in new.sets.iter().filter(|(set, _)| !empty.sets.contains_key(*set)) {
        e.new_set(set, *class, limit);
    }
    for (chain, lookups) in &new.chains {
        e.new_chain(chain);
        lookups.iter().for_each(|lookup| {
            e.lookup_rule(chain, lookup);
        });
    }
    for (segment, chain) in &new.segments {
        e.segment(*segment, Some(chain));
    }
    base_rules(e, new);
}

fn base_rules(e: &mut Encoder<'_>, new: &Ruleset) {
    e.fixed_rules();
    for lookup in &new.everywhere {
        e.lookup_rule(encode::BASE, lookup);
    }
    if !new.segments.is_empty() {
        e.port_rule();
    }
}

fn element_error(element: &Element<'_>, refusal: &Refusal) -> Error {
    if refusal.error == ENFILE {
        return Error::Full(element.jail.clone());
    }
    let verb = if element.wanted == Wanted::Free { "unban" } else { "ban" };
    Error::Kernel {
        what: format!("cannot {verb} {} in jail `{}`", element.prefix, element.jail),
        source: std::io::Error::from_raw_os_error(refusal.error),
    }
}

/// A refusal of something that is not one element.
fn refused(what: &str, refusal: &Refusal, table: &str) -> Error {
    Error::Kernel {
        what: format!("cannot {what} `{table}` of nftables"),
        source: std::io::Error::from_raw_os_error(refusal.error),
    }
}
