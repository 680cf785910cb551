//! The kernel's side: what it can do, what stands in our table, who changed it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use super::super::Error;
use super::super::netlink::{
    EAGAIN, ENOBUFS, ENOENT, EPERM, Messages, Refusal, Socket, attributes, find, find_long, find_number, find_text,
    number,
};
use super::encode::{
    DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE, DESTROYSETELEM, Encoder, GETCHAIN, GETRULE, GETSET, GETTABLE,
    MAP_NAME, NEWCHAIN, NEWGEN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE, OWNER, PERSIST,
};
use super::ruleset::Class;
use super::{Options, refused};
use crate::address::Prefix;

/// How often an exchange is tried that the kernel had no memory or time for.
const TRIES: u32 = 5;

/// What stands in our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// The kernel's number of the table; another one is another table.
    pub handle: u64,
    /// Chains, and the priority of those with a hook.
    pub chains: BTreeMap<String, Option<i32>>,
    /// Sets: flags and length of the key.
    pub sets: BTreeMap<String, (u32, u32)>,
    /// How many rules there are.
    pub rules: usize,
}

/// What others did to our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Rules, chains or sets may be gone.
    pub rules: bool,
    /// The port map has lost something.
    pub map: bool,
    /// Bans may be gone. An administrator who lets somebody in by `nft` gets the ban back, as
    /// under an owner, where it is not possible at all; the client is there for that.
    pub bans: bool,
    /// The program that did it.
    pub by: Option<String>,
}

/// The sockets and what was found out.
pub struct Kernel {
    socket: Socket,
    /// Hears of changes by others; not needed by an owner, and it costs each ban some.
    pub monitor: Option<Socket>,
    /// Whether the table is ours alone.
    pub owned: bool,
    own: bool,
    events: usize,
    /// Number of the table, 0 before it is known.
    pub handle: u64,
    /// Last sequence number used.
    pub sequence: u32,
    /// Counts the transactions of everybody.
    generation: u32,
    /// Whether others had transactions since events were last read.
    foreign: bool,
    table: String,
    /// Whether the kernel answers from prerouting.
    pub reject: bool,
}

impl Kernel {
    /// Opens the socket and switches off in `options` what the kernel cannot do.
    pub fn open(options: &Options) -> Result<(Kernel, Options), Error> {
        let mut options = options.clone();
        let socket =
            Socket::open(true).map_err(|source| Error::Kernel { what: "cannot open netlink".into(), source })?;
        let mut kernel = Kernel {
            socket,
            monitor: None,
            owned: false,
            own: options.own,
            events: options.events,
            handle: 0,
            sequence: 0,
            generation: 0,
            foreign: false,
            table: options.table.clone(),
            reject: options.reject,
        };
        kernel.changed()?;
        kernel.probe(&mut options)?;
        Ok((kernel, options))
    }

    /// Bytes one transaction may have.
    pub fn room(&self) -> usize {
        self.socket.room
    }

    fn encode(&mut self, table: &str, write: impl FnOnce(&mut Encoder<'_>)) -> Messages {
        let mut messages = Messages::after(self.sequence);
        write(&mut Encoder { to: &mut messages, table, reject: self.reject });
        self.sequence = messages.sequence;
        messages
    }

    /// One transaction: its refusals, none if it is in effect.
    pub fn exchange(&mut self, messages: &Messages) -> Result<Vec<Refusal>, Error> {
        let mut pause = std::time::Duration::from_millis(1);
        for attempt in 1.. {
            match self.socket.exchange(messages) {
                Ok(refusals) if attempt < TRIES && refusals.iter().any(|r| r.error == EAGAIN) => {}
                Ok(refusals) if refusals.iter().any(|r| r.error == EPERM) => {
                    // With CAP_NET_ADMIN, which opening proved, only another owner says no.
                    return Err(if self.permitted()? {
                        Error::Owned(self.table.clone())
                    } else {
                        Error::Permission("nftables")
                    });
                }
                Ok(refusals) => {
                    if self.monitor.is_some() {
                        let before = self.generation;
                        self.changed()?;
                        self.foreign |= self.generation.wrapping_sub(before) > 1;
                    }
                    return Ok(refusals);
                }
                // The transaction may be in effect; everything we send may be sent again.
                Err(error) if attempt < TRIES && [ENOBUFS, EAGAIN].contains(&number(&error)) => {}
                Err(source) => return Err(Error::Kernel { what: "cannot send to nftables".to_owned(), source }),
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        Ok(Vec::new())
    }

    fn transaction(&mut self, table: &str, write: impl FnOnce(&mut Encoder<'_>)) -> Result<Vec<Refusal>, Error> {
        let messages = self.encode(table, |e| {
            e.batch_begin();
            write(e);
            e.to.acknowledge_last();
            e.batch_end();
        });
        self.exchange(&messages)
    }

    /// Tries what newer kernels can do in a table that goes with this process.
    fn probe(&mut self, options: &mut Options) -> Result<(), Error> {
        let probe = Prefix::host(IpAddr::from([192, 0, 2, 1]));
        let scratch = format!("{}-probe-{}", options.table, self.socket.port);
        if self.own {
            // Made and deleted in one transaction, so that it cannot outlive a crash.
            let refusals = self.transaction(&scratch, |e| {
                e.new_table(OWNER | PERSIST);
                e.about_table(DELTABLE);
            })?;
            self.own = refusals.is_empty();
        }
        if options.reject {
            let refusals = self.transaction(&scratch, |e| {
                e.new_table(0);
                e.base_chain(options.priority);
                e.probe_reject();
                e.about_table(DELTABLE);
            })?;
            options.reject = refusals.is_empty();
            self.reject = options.reject;
        }
        if options.destroy {
            let refusals = self.transaction(&scratch, |e| {
                e.new_table(0);
                e.new_set("a4", Class::HOSTS[0], 16);
                e.elements(DESTROYSETELEM, "a4", [(&probe, None)].into_iter(), |_| {});
                e.about_table(DELTABLE);
            })?;
            options.destroy = refusals.is_empty();
        }
        if options.prolong {
            // An owned table goes with the socket.
            let flags = if self.own { OWNER } else { 0 };
            let refusals = self.transaction(&scratch, |e| {
                e.new_table(flags);
                e.new_set("a4", Class::HOSTS[0], 16);
                e.elements(NEWSETELEM, "a4", [(&probe, Some(100_000))].into_iter(), |_| {});
            })?;
            if let Some(refusal) = refusals.first() {
                return Err(refused("try out a table like", refusal, &options.table));
            }
            self.transaction(&scratch, |e| {
                e.elements(NEWSETELEM, "a4", [(&probe, Some(200_000))].into_iter(), |_| {});
            })?;
            let mut left = 0.0;
            let read = self.read(&scratch, "a4", Class::HOSTS[0], 16, |_, seconds| left = seconds.unwrap_or(0.0));
            self.transaction(&scratch, |e| {
                e.about_table(DELTABLE);
            })?;
            read?;
            options.prolong = left > 150.0;
        }
        Ok(())
    }

    /// Makes the table, or takes over the one that is there; as owner where that is possible.
    pub fn take(&mut self, exists: bool) -> Result<(), Error> {
        self.owned = false;
        let table = self.table.clone();
        if self.own {
            let refusals = self.transaction(&table, |e| {
                e.new_table(OWNER | PERSIST);
            })?;
            // A table that somebody made without an owner cannot get one; ours it is all the same.
            self.owned = refusals.is_empty();
        }
        if !self.owned {
            if !exists {
                let refusals = self.transaction(&table, |e| {
                    e.new_table(0);
                })?;
                if let Some(refusal) = refusals.first() {
                    return Err(refused("make table", refusal, &table));
                }
            }
            if self.monitor.is_none() {
                let monitor = Socket::listen(self.events);
                self.monitor = Some(monitor.map_err(|source| Error::Kernel {
                    what: "cannot listen to changes of nftables".to_owned(),
                    source,
                })?);
                self.changed()?;
            }
        }
        self.handle = self.existing()?.map_or(0, |existing| existing.handle);
        Ok(())
    }

    /// What stands in the table; nothing if there is none.
    pub fn existing(&mut self) -> Result<Option<Existing>, Error> {
        let table = self.table.clone();
        let mut existing = Existing::default();
        let request = self.encode(&table, |e| {
            e.about_table(GETTABLE);
        });
        let found = self.ask(&request, |kind, attributes| {
            if kind == NEWTABLE {
                existing.handle = find_long(attributes, 4).unwrap_or(0);
            }
        })?;
        match found {
            Ok(()) => {}
            Err(refusal) if refusal.error == ENOENT => return Ok(None),
            Err(refusal) => return Err(refused("read table", &refusal, &table)),
        }
        for dump in [GETCHAIN, GETSET, GETRULE] {
            let request = self.encode(&table, |e| e.dump(dump));
            let read = self.ask(&request, |kind, attributes| {
                if find_text(attributes, 1) != Some(&table) {
                    return;
                }
                match (kind, find_text(attributes, 3), find_text(attributes, 2)) {
                    (NEWCHAIN, Some(name), _) => {
                        let priority = find(attributes, 4).and_then(|hook| find_number(hook, 2));
                        existing.chains.insert(name.to_owned(), priority.map(|p| p as i32));
                    }
                    (NEWSET, _, Some(name)) => {
                        let shape = [3, 5].map(|kind| find_number(attributes, kind).unwrap_or(0));
                        existing.sets.insert(name.to_owned(), (shape[0], shape[1]));
                    }
                    (NEWRULE, ..) => existing.rules += 1,
                    _ => {}
                }
            })?;
            if let Err(refusal) = read {
                return Err(refused("read table", &refusal, &table));
            }
        }
        Ok(Some(existing))
    }

    fn ask(&mut self, request: &Messages, mut each: impl FnMut(u16, &[u8])) -> Result<Result<(), Refusal>, Error> {
        let asked = self.socket.ask(request, |message| {
            each(message.kind, message.attributes());
            true
        });
        asked.map_err(|source| Error::Kernel { what: "cannot ask nftables".to_owned(), source })
    }

    /// Reads a set of our table; false if it was not all.
    pub fn read_set(
        &mut self,
        set: &str,
        class: Class,
        most: usize,
        each: impl FnMut(Prefix, Option<f64>),
    ) -> Result<bool, Error> {
        let table = self.table.clone();
        self.read(&table, set, class, most, each)
    }

    fn read(
        &mut self,
        table: &str,
        set: &str,
        class: Class,
        most: usize,
        mut each: impl FnMut(Prefix, Option<f64>),
    ) -> Result<bool, Error> {
        // A socket of its own: a dump that is not read to its end would stay in the way.
        let error = |source| Error::Kernel { what: format!("cannot read set `{set}` of nftables"), source };
        let mut socket = Socket::open(true).map_err(error)?;
        let request = self.encode(table, |e| e.dump_set(set));
        let mut count = 0;
        let asked = socket.ask(&request, |message| {
            for (_, element) in find(message.attributes(), 3).into_iter().flat_map(attributes) {
                let Some(key) = find(element, 1).and_then(|key| find(key, 1)) else { continue };
                let address: Option<IpAddr> = match key.len() {
                    4 => <[u8; 4]>::try_from(key).ok().map(Into::into),
                    16 => <[u8; 16]>::try_from(key).ok().map(Into::into),
                    _ => None,
                };
                let Some(prefix) = address.and_then(|address| Prefix::new(address, class.length)) else { continue };
                if count == most {
                    return false;
                }
                count += 1;
                each(prefix, find_long(element, 5).map(|milliseconds| milliseconds as f64 / 1000.0));
            }
            true
        });
        match asked.map_err(error)? {
            Ok(()) => Ok(count < most),
            Err(refusal) => Err(error(io::Error::from_raw_os_error(refusal.error))),
        }
    }

    /// Whether anything in nftables changed since this was last asked.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let request = self.encode("", |e| e.generation());
        let mut generation = 0;
        let answer = self.ask(&request, |kind, attributes| {
            if kind == NEWGEN {
                generation = find_number(attributes, 1).unwrap_or(0);
            }
        })?;
        match answer {
            Err(refusal) if refusal.error == EPERM => return Err(Error::Permission("nftables")),
            Err(refusal) => {
                let source = io::Error::from_raw_os_error(refusal.error);
                return Err(Error::Kernel { what: "the kernel has no nftables".to_owned(), source });
            }
            Ok(()) => {}
        }
        let changed = generation != self.generation;
        self.generation = generation;
        Ok(changed)
    }

    fn permitted(&mut self) -> Result<bool, Error> {
        match self.changed() {
            Ok(_) => Ok(true),
            Err(Error::Permission(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What others did to our table since this was last asked.
    pub fn events(&mut self) -> Result<Events, Error> {
        let mut events = Events::default();
        if self.monitor.is_none() {
            return Ok(events);
        }
        let foreign = self.changed()? || std::mem::take(&mut self.foreign);
        let Some(monitor) = &mut self.monitor else { return Ok(events) };
        let (port, table) = (self.socket.port, &self.table);
        let read = monitor.receive(|message| {
            if message.port == port {
                return;
            }
            let attributes = message.attributes();
            match message.kind {
                DELTABLE | DELCHAIN | DELRULE | DELSET if find_text(attributes, 1) == Some(table) => {
                    events.rules = true;
                }
                DELSETELEM if find_text(attributes, 1) == Some(table) => {
                    let map = find_text(attributes, 2) == Some(MAP_NAME);
                    *(if map { &mut events.map } else { &mut events.bans }) = true;
                }
                NEWGEN if (events.rules || events.map || events.bans) && events.by.is_none() => {
                    events.by = find_text(attributes, 3).map(str::to_owned);
                }
                _ => {}
            }
        });
        match read {
            Ok(()) => Ok(events),
            // Some events were lost. Those of a hundred thousand bans of ours fill any buffer;
            // but if others were at work, anything may have happened.
            Err(error) if number(&error) == ENOBUFS && foreign => Ok(Events { rules: true, bans: true, ..events }),
            Err(error) if number(&error) == ENOBUFS => Ok(events),
            Err(source) => Err(Error::Kernel { what: "cannot read changes of nftables".to_owned(), source }),
        }
    }

    /// Takes the table away; none is no error.
    pub fn delete_table(&mut self) -> Result<(), Error> {
        let table = self.table.clone();
        let refusals = self.transaction(&table, |e| {
            e.about_table(DELTABLE);
        })?;
        self.owned = false;
        match refusals.iter().find(|refusal| refusal.error != ENOENT) {
            Some(refusal) => Err(refused("delete table", refusal, &table)),
            None => Ok(()),
        }
    }
}
