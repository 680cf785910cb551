//! What is only looked at: status, bans, settings.

use std::sync::Arc;

use crate::address::Id;
use crate::config::settings::Compat;
use crate::control::{FailureKind, Reply, Value};
use crate::server::engine::Engine;
use crate::server::jail::Jail;
use crate::server::setup::{number, text};

use super::{count, failure, list, missing, pair};

/// Forms of a jail's status; `stats` is as `basic` before 1.1.
pub(super) const FLAVORS: [&str; 4] = ["basic", "short", "stats", "cymru"];

impl Engine {
    pub(in crate::server) fn status(&self, words: &[Value]) -> Reply {
        let flavor = words.get(1).map(text);
        if words.len() > 2 {
            return Err(failure(FailureKind::Exception, "Invalid command (no status)"));
        }
        let v11 = self.options.compat == Compat::V1_1;
        match words.first().map(text) {
            None => Ok(Value::List(self.jail_list())),
            Some(all) if all == "--all" && v11 => {
                if flavor.as_deref() == Some("stats") {
                    return Ok(self.statistics());
                }
                let mut status = self.jail_list();
                let jails = self.sorted().into_iter();
                let jails = jails.map(|name| (Value::from(&*name), self.jail_status(&name, flavor.as_deref())));
                status.push(Value::Map(jails.collect()));
                Ok(Value::List(status))
            }
            Some(name) => {
                let name = self.known(&name)?;
                if flavor.as_deref() == Some("stats") && v11 {
                    return Ok(self.jail_statistics(&name));
                }
                Ok(self.jail_status(&name, flavor.as_deref()))
            }
        }
    }

    fn sorted(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.jails.keys().cloned().collect();
        names.sort();
        names
    }

    fn jail_list(&self) -> Vec<Value> {
        let names = self.sorted();
        vec![
            pair("Number of jail", count(names.len())),
            pair("Jail list", Value::Text(names.iter().map(|name| &**name).collect::<Vec<_>>().join(", "))),
        ]
    }

    fn jail_status(&self, name: &str, flavor: Option<&str>) -> Value {
        let Some(jail) = self.jails.get(name) else { return Value::None };
        let failures = &jail.counts.failures;
        let mut filter = vec![
            pair("Currently failed", count(failures.len())),
            pair("Total failed", Value::Int(i64::try_from(failures.total()).unwrap_or(i64::MAX))),
        ];
        if jail.setup.journal.is_some() {
            let groups: Vec<String> = jail.setup.journalmatch.iter().map(|group| group.join(" ")).collect();
            filter.push(pair("Journal matches", list([groups.join(" + ")])));
        } else {
            filter.push(pair("File list", list(jail.files())));
        }
        if jail.undecided.total() > 0 {
            let total = i64::try_from(jail.undecided.total()).unwrap_or(i64::MAX);
            filter.push(pair("Undecided lines", Value::Int(total)));
        }
        let bans = jail.counts.bans();
        let mut actions = vec![
            pair("Currently banned", count(bans.len())),
            pair("Total banned", Value::Int(i64::try_from(bans.total()).unwrap_or(i64::MAX))),
        ];
        if flavor != Some("short") {
            actions.push(pair("Banned IP list", list(bans.iter().map(|ban| ban.id.to_string()))));
        }
        if flavor == Some("cymru") {
            let lists = ["Banned ASN list", "Banned Country list", "Banned RIR list"];
            actions.extend(lists.map(|name| pair(name, list(["error".to_owned()]))));
        }
        Value::List(vec![pair("Filter", Value::List(filter)), pair("Actions", Value::List(actions))])
    }

    fn jail_statistics(&self, name: &str) -> Value {
        let Some(jail) = self.jails.get(name) else { return Value::None };
        let numbers =
            |now: usize, all: u64| Value::Tuple(vec![count(now), Value::Int(i64::try_from(all).unwrap_or(i64::MAX))]);
        let used = match &jail.setup {
            setup if setup.journal.is_some() => "systemd",
            setup if setup.backend.starts_with("polling") => "polling",
            _ => "pyinotify",
        };
        Value::List(vec![
            used.into(),
            numbers(jail.counts.failures.len(), jail.counts.failures.total()),
            numbers(jail.counts.bans().len(), jail.counts.bans().total()),
        ])
    }

    pub(super) fn statistics(&self) -> Value {
        Value::Map(self.sorted().into_iter().map(|name| ((&*name).into(), self.jail_statistics(&name))).collect())
    }

    pub(in crate::server) fn banned(&self, ids: &[Value]) -> Value {
        if ids.is_empty() {
            let jails = self.jails.iter().map(|(name, jail)| {
                Value::Map(vec![((&**name).into(), list(jail.counts.bans().iter().map(|ban| ban.id.to_string())))])
            });
            return Value::List(jails.collect());
        }
        let jails_of = |id: &Value| {
            let id = Id::parse(&text(id));
            let banning = self.jails.iter().filter(|(_, jail)| jail.counts.bans().get(&id).is_some());
            list(banning.map(|(name, _)| name.to_string()))
        };
        Value::List(ids.iter().map(jails_of).collect())
    }

    pub(in crate::server) fn get(&self, words: &[Value]) -> Reply {
        let name = words.first().map(text).ok_or_else(missing)?;
        let general = &self.general;
        let without_database = self.state.is_none();
        let stored = |value: Value| if without_database { Value::None } else { value };
        Ok(match name.as_str() {
            "loglevel" => general.loglevel.as_str().into(),
            "logtarget" => general.logtarget.as_str().into(),
            "syslogsocket" => general.syslogsocket.as_str().into(),
            "thread" => Value::Map(vec![("stacksize".into(), Value::Int(general.stacksize))]),
            "dbfile" => {
                general.dbfile.as_ref().map_or(Value::None, |path| stored(path.to_string_lossy().into_owned().into()))
            }
            "dbmaxmatches" => stored(Value::Int(general.dbmaxmatches)),
            "dbpurgeage" => stored(number(general.dbpurgeage)),
            _ => {
                if words.len() < 2 {
                    return Err(missing());
                }
                let name = self.known(&name)?;
                return self.get_of_jail(&self.jails[&name], &words[1..]);
            }
        })
    }

    fn get_of_jail(&self, jail: &Jail, words: &[Value]) -> Reply {
        let bans = jail.counts.bans();
        let bantime = jail.counts.limits().bantime;
        let option = words.first().map(text).ok_or_else(missing)?;
        Ok(match option.as_str() {
            "logpath" => list(jail.files()),
            "banned" => match &words[1..] {
                [] => list(bans.iter().map(|ban| ban.id.to_string())),
                ids => {
                    let mut found: Vec<Value> =
                        ids.iter().map(|id| Value::Int(bans.get(&Id::parse(&text(id))).is_some().into())).collect();
                    if found.len() == 1 { found.remove(0) } else { Value::List(found) }
                }
            },
            "banip" if words.get(1).map(text).as_deref() == Some("--with-time") => {
                list(bans.by_end().into_iter().map(|ban| {
                    let length = ban.bantime(bantime);
                    let end = ban
                        .end(bantime)
                        .map_or_else(|| "9999-12-31 23:59:59".to_owned(), |end| self.logger.day_time(end));
                    let (id, start) = (ban.id.to_string(), self.logger.day_time(ban.time));
                    format!("{id} \t{start} + {} = {end}", length as i64)
                }))
            }
            "banip" => list(bans.by_end().into_iter().map(|ban| ban.id.to_string())),
            _ => return jail.setup.get(words),
        })
    }
}
