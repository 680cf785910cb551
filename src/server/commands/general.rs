//! Settings of the whole server: its log, its database.

use crate::control::{FailureKind, Reply, Value};
use crate::fail2ban::time;
use crate::server::engine::Engine;
use crate::server::logging::{Destination, Level, Target, shown};
use crate::server::setup::{number, text};
use crate::server::{NAME, causes, own};

use super::{failure, missing};

impl Engine {
    /// A setting of the whole server; `None` if it is none.
    pub(in crate::server) fn set_general(&mut self, name: &str, value: Option<&Value>) -> Option<Reply> {
        if !matches!(
            name,
            "loglevel"
                | "logtarget"
                | "syslogsocket"
                | "allowipv6"
                | "thread"
                | "dbfile"
                | "dbmaxmatches"
                | "dbpurgeage"
        ) {
            return None;
        }
        let Some(value) = value else { return Some(Err(missing())) };
        let given = text(value);
        Some(match name {
            "loglevel" => match Level::parse(&given) {
                Some(level) => {
                    self.logger.set_level(level);
                    self.general.loglevel = given.to_ascii_uppercase();
                    Ok(self.general.loglevel.as_str().into())
                }
                None => Err(failure(FailureKind::Value, format!("Invalid log level '{}'", given.to_ascii_uppercase()))),
            },
            "logtarget" => self.set_logtarget(&given),
            "syslogsocket" => {
                self.general.syslogsocket.clone_from(&given);
                Ok(given.into())
            }
            "thread" => {
                if let Value::Map(pairs) = value
                    && let Some((_, Value::Int(size))) =
                        pairs.iter().find(|(key, _)| key.as_text() == Some("stacksize"))
                {
                    self.general.stacksize = *size;
                }
                Ok(Value::None)
            }
            "dbfile" => self.set_database(&given),
            "dbmaxmatches" => match given.trim().parse() {
                Ok(number) => {
                    self.general.dbmaxmatches = number;
                    Ok(Value::Int(number))
                }
                Err(_) => {
                    let text = format!("invalid literal for int() with base 10: '{given}'");
                    Err(failure(FailureKind::Value, text))
                }
            },
            "dbpurgeage" => match time::seconds(&given) {
                Ok(seconds) => {
                    self.general.dbpurgeage = seconds.as_f64();
                    Ok(number(self.general.dbpurgeage))
                }
                Err(error) => Err(failure(FailureKind::Value, error.to_string())),
            },
            _ => {
                self.general.without_ipv6 = match given.to_ascii_lowercase().as_str() {
                    "auto" => !own::has_ipv6(),
                    other => !matches!(other, "1" | "on" | "true" | "yes"),
                };
                Ok(value.clone())
            }
        })
    }

    fn set_logtarget(&mut self, target: &str) -> Reply {
        let parsed = Destination::parse(target, &self.general.syslogsocket);
        let parsed = parsed.map_err(|text| failure(FailureKind::Value, text))?;
        // other options alone change nothing
        if self.general.logtarget == parsed.name {
            return Ok(parsed.name.into());
        }
        // what was said before belongs into the old one
        self.settle();
        if let Err(error) = self.logger.set_target(&parsed) {
            let text = match error.syslog_socket() {
                Some(path) => {
                    format!("Syslog socket file: {} does not exists or is not a socket", shown(&path.to_string_lossy()))
                }
                None => format!("Unable to log to '{}': {}", shown(target), causes(&error)),
            };
            self.effects.line(Level::ERROR, "server", text);
            return Err(failure(FailureKind::Exception, "Failed to change log target"));
        }
        self.general.logtarget.clone_from(&parsed.name);
        let name = format!("{} v{}", NAME, self.options.compat.version());
        self.effects.line(Level::INFO, "server", format!("Start {name}"));
        let place = match &parsed.target {
            Target::Syslog(socket) if parsed.name == "SYSLOG" => format!(" ({})", shown(&socket.to_string_lossy())),
            _ => String::new(),
        };
        let text = format!("Changed logging target to {}{place} for {name}", shown(&parsed.name));
        self.effects.line(Level::INFO, "server", text);
        Ok(parsed.name.into())
    }

    pub(in crate::server) fn flush_logs(&mut self) -> Reply {
        match self.logger.reopen() {
            Ok(true) => {
                let text = format!("rollover performed on {}", self.general.logtarget);
                self.effects.line(Level::INFO, "server", text);
                Ok("rolled over".into())
            }
            Ok(false) => {
                let text = format!("flush performed on {}", self.general.logtarget);
                self.effects.line(Level::INFO, "server", text);
                Ok("flushed".into())
            }
            Err(error) => {
                let text = causes(&error);
                self.effects.line(Level::ERROR, "server", text.clone());
                Err(failure(FailureKind::Exception, text))
            }
        }
    }
}
