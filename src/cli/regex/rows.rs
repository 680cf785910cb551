//! `--out`: one line for each failure, and nothing else.

use super::result::{groups, matches, printed, value};
use super::sheet::Sheet;
use crate::address::Id;
use crate::control::Value;
use crate::fail2ban::repr::repr;
use crate::filter::Datum;
use crate::filter::record::Hit;
use crate::time::Time;

/// What is printed of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The identifier.
    Id,
    /// The address, or the identifier if there is none.
    Ip,
    /// The matched lines.
    Msg,
    /// Identifier, time and groups as a Python list.
    Row,
    /// One group.
    Group(String),
    /// A text with tags.
    Template(String),
}

impl Format {
    /// By its name, or a text with tags.
    #[must_use]
    pub fn new(text: &str) -> Format {
        match text {
            "id" | "fid" => Format::Id,
            "ip" => Format::Ip,
            "msg" => Format::Msg,
            "row" => Format::Row,
            text if text.contains('<') => Format::Template(text.to_owned()),
            text => Format::Group(text.to_owned()),
        }
    }

    /// Writes a failure.
    pub fn write(&self, sheet: &mut Sheet, hit: &Hit, id: &Id, now: Time) {
        match self {
            Format::Id => sheet.line(&id.to_string()),
            Format::Ip => sheet.line(&hit.address.as_ref().unwrap_or(id).to_string()),
            Format::Msg => {
                let lines: Vec<&str> = hit.matches.iter().map(|one| &*one.line).collect();
                sheet.line(&lines.join("\n"));
            }
            Format::Row => {
                let time = hit.time.map_or(Value::None, |time| Value::Float(time.as_f64()));
                let id = match hit.groups.iter().find(|(name, _)| &**name == "fid") {
                    Some((_, Some(tuple @ Datum::Tuple(_)))) => value(Some(tuple)),
                    _ => Value::Text(id.to_string()),
                };
                sheet.line(&format!("[{},\t{},\t{}],", repr(&id), repr(&time), repr(&Value::Map(groups(hit)))));
            }
            Format::Group(name) => sheet.line(&printed(&group(hit, name).unwrap_or(Value::None))),
            Format::Template(text) if text.contains("<msg>") => {
                for one in &hit.matches {
                    sheet.line(&rendered(text, hit, id, now, &one.line));
                }
            }
            Format::Template(text) => sheet.line(&rendered(text, hit, id, now, "")),
        }
    }
}

/// A group by its name; `None` if there is none.
fn group(hit: &Hit, name: &str) -> Option<Value> {
    match name {
        "matches" => Some(matches(&hit.matches)),
        "ip" => hit.address.as_ref().map(|address| Value::Text(address.to_string())),
        _ => hit.groups.iter().find(|(known, _)| &**known == name).map(|(_, datum)| value(datum.as_ref())),
    }
}

/// The text with its tags replaced; unknown ones stay.
fn rendered(text: &str, hit: &Hit, id: &Id, now: Time, msg: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let tag = rest[1..].find(['<', '>']).filter(|&end| rest[1 + end..].starts_with('>')).map(|end| &rest[1..=end]);
        match tag.and_then(|tag| replacement(tag, hit, id, now, msg)) {
            Some(value) => {
                out.push_str(&value);
                rest = &rest[tag.map_or(1, str::len) + 2..];
            }
            None => {
                out.push('<');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn replacement(tag: &str, hit: &Hit, id: &Id, now: Time, msg: &str) -> Option<String> {
    let address = hit.address.as_ref().unwrap_or(id);
    let time = || Value::Float(hit.time.unwrap_or(now).as_f64());
    let lines = || hit.matches.iter().map(|one| &*one.line).collect::<Vec<_>>().join("\n");
    Some(match tag {
        "ip" => address.to_string(),
        "fid" => id.to_string(),
        "family" => {
            address.prefix().map_or("None", |p| if p.address().is_ipv4() { "inet4" } else { "inet6" }).to_owned()
        }
        "ip-rev" => address.prefix().map(|prefix| reversed(prefix.address())).unwrap_or_default(),
        "ip-host" => match hit.groups.iter().find(|(name, _)| &**name == "dns") {
            Some((_, Some(Datum::Text(name)))) => name.to_string(),
            _ => "None".to_owned(),
        },
        "failures" | "bancount" | "restored" => "0".to_owned(),
        "time" => repr(&time()),
        "matches" => lines(),
        "msg" => msg.to_owned(),
        "br" => "\n".to_owned(),
        "sp" => " ".to_owned(),
        "fq-hostname" | "sh-hostname" => {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            if tag == "fq-hostname" { name } else { name.split('.').next().unwrap_or("").to_owned() }
        }
        "raw-ticket" => format!(
            "BanTicket: ip={id} time={} bantime=None bancount=0 #attempts=0 matches={}",
            repr(&time()),
            repr(&matches(&hit.matches))
        ),
        _ => {
            let name = tag.strip_prefix("F-").filter(|name| {
                !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_-".contains(&b))
            })?;
            let name = match name {
                "ID" => "fid".to_owned(),
                "PORT" => "fport".to_owned(),
                other => other.to_lowercase(),
            };
            match group(hit, &name) {
                None | Some(Value::None) => String::new(),
                Some(value) => printed(&value),
            }
        }
    })
}

/// The parts of an address in the order of reverse look-ups, each with its dot.
fn reversed(address: std::net::IpAddr) -> String {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().iter().rev().map(|octet| format!("{octet}.")).collect(),
        std::net::IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect()
        }
    }
}
