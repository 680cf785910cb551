//! Which actions are carried out without their commands, and what their bans cover.

use crate::action::Properties;
use crate::fail2ban::stock;
use crate::firewall::{Scope, Verdict};

/// What a stock or native action covers; `None` for all others, and for stock ones unless `stock_too`.
pub(super) fn scope(properties: &Properties, stock_too: bool) -> Option<Scope> {
    let native = properties.get("native") == Some("true");
    let (ports, protocol, blocktype) = if native {
        let get = |name: &str, default: &str| properties.get(name).unwrap_or(default).to_owned();
        (Some(get("port", "0:65535")), get("protocol", "tcp"), get("blocktype", "drop"))
    } else {
        let found = stock::recognise(properties.iter()).filter(|_| stock_too)?;
        (found.ports, found.protocol, found.blocktype)
    };
    let verdict = if blocktype.to_ascii_lowercase().starts_with("drop") { Verdict::Drop } else { Verdict::Reject };
    let protocols = protocol
        .split([',', ' '])
        .filter(|name| !name.is_empty())
        .map(|name| match name {
            "tcp" => Some(6),
            "udp" => Some(17),
            "sctp" => Some(132),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>();
    let ports = match ports {
        None => Vec::new(),
        Some(text) => text.split([',', ' ']).filter(|part| !part.is_empty()).map(range).collect::<Option<Vec<_>>>()?,
    };
    let everything = ports.is_empty() || ports == [(0, 65535)];
    Some(Scope {
        ports: if everything { Vec::new() } else { ports },
        protocols: if everything { Vec::new() } else { protocols? },
        verdict,
    })
}

/// `22`, `6000:6010`, `6000-6010` or a name of `/etc/services`.
fn range(text: &str) -> Option<(u16, u16)> {
    if let Some((low, high)) = text.split_once([':', '-'])
        && let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>())
    {
        return (low <= high).then_some((low, high));
    }
    if let Ok(port) = text.parse() {
        return Some((port, port));
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?);
        if name != text && !words.any(|alias| alias == text) {
            return None;
        }
        let port = port.split('/').next()?.parse().ok()?;
        Some((port, port))
    })
}
