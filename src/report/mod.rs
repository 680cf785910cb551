//! Reports to the owner of an attacking address: what happened, in a form that an abuse desk can act on.
//!
//! Pure: whoever calls says what time it is, who is written to, and what is known of our own machine.

use std::net::IpAddr;

use crate::filter::Match;
use crate::time::Time;

pub mod kind;
pub mod mail;
pub mod redact;
pub mod text;
pub mod xarf;

use kind::Kind;
use redact::{MOST_BYTES, MOST_LINES, Redactor};

/// All that one address did to one service.
#[derive(Clone, Debug)]
pub struct Incident {
    /// The address.
    pub address: IpAddr,
    /// The jail that saw it.
    pub jail: String,
    /// What it is called.
    pub kind: &'static Kind,
    /// The source port of the last attempt whose line names one.
    pub port: Option<u16>,
    /// The attacked address, if it is to be told.
    pub destination: Option<IpAddr>,
    /// Attempts.
    pub attempts: u64,
    /// The first and the last of them.
    pub first: Time,
    /// See `first`.
    pub last: Time,
    /// Redacted lines with the times of their attempts, oldest first.
    pub lines: Vec<(Time, String)>,
    bytes: usize,
}

impl Incident {
    /// Nothing yet.
    #[must_use]
    pub fn new(address: IpAddr, jail: &str, time: Time, destination: Option<IpAddr>) -> Incident {
        Incident {
            address,
            jail: jail.to_owned(),
            kind: Kind::of(jail),
            port: None,
            destination,
            attempts: 0,
            first: time,
            last: time,
            lines: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds one attempt and its lines, as many as there is room for.
    pub fn add(&mut self, time: Time, lines: &[Match], redactor: &Redactor) {
        self.attempts += 1;
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        for line in lines {
            self.port = source_port(&line.line, self.address).or(self.port);
            if self.lines.len() >= MOST_LINES || self.bytes >= MOST_BYTES {
                continue;
            }
            let text = redactor.line(line, self.address);
            self.bytes += text.len();
            self.lines.push((time, text));
        }
    }

    /// Where the service listens.
    #[must_use]
    pub fn service_port(&self) -> Option<u16> {
        self.kind.port
    }
}

/// The port that a line names right behind the address: `ADDRESS port N`, `ADDRESS:N`, `[ADDRESS]:N`.
#[must_use]
pub fn source_port(line: &str, address: IpAddr) -> Option<u16> {
    let text = address.to_string();
    let mut from = 0;
    while let Some(at) = line.get(from..)?.find(&text) {
        let start = from + at;
        let rest = &line[start + text.len()..];
        let whole = !line[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == ':');
        let digits = [" port ", "]:", "] port "]
            .into_iter()
            .chain(address.is_ipv4().then_some(":"))
            .find_map(|between| rest.strip_prefix(between));
        if let Some(digits) = digits.filter(|_| whole) {
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            if let Some(port) = digits[..end].parse().ok().filter(|port| *port > 0) {
                return Some(port);
            }
        }
        from = start + text.len();
    }
    None
}

/// A time as RFC 3339 has it, in UTC to the second.
#[must_use]
pub fn utc(time: Time) -> String {
    let stamp = jiff::Timestamp::from_second(time.seconds()).unwrap_or_default();
    stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_port_stands_right_behind_the_address() {
        let of = |line: &str, address: &str| source_port(line, address.parse().expect("an address"));
        assert_eq!(of("Failed password for root from 192.0.2.7 port 45353 ssh2", "192.0.2.7"), Some(45353));
        assert_eq!(of("for port 1 from 192.0.2.70 port 2 and 192.0.2.7 port 3", "192.0.2.7"), Some(3));
        assert_eq!(of("x 1192.0.2.7 port 4", "192.0.2.7"), None);
        assert_eq!(of("client [192.0.2.7]:5060 x", "192.0.2.7"), Some(5060));
        assert_eq!(of("client 192.0.2.7:5061: x", "192.0.2.7"), Some(5061));
        assert_eq!(of("from 2001:db8::1 port 7", "2001:db8::1"), Some(7));
        assert_eq!(of("from 2001:db8::1:7", "2001:db8::1"), None);
        for none in ["from 192.0.2.7", "192.0.2.7 port 0", "192.0.2.7 port 99999", "192.0.2.7 port x", ""] {
            assert_eq!(of(none, "192.0.2.7"), None, "{none}");
        }
    }
}
