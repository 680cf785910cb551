//! ipset messages. The numbers are those of `linux/netfilter/ipset/ip_set.h`, whose names the
//! comments give.

use std::net::IpAddr;

use super::super::netlink::{DUMP, Incoming, Messages, Refusal, attributes, find, find_number, find_text};
use crate::address::Prefix;

const SUBSYSTEM: u16 = 6 << 8;
const CREATE: u16 = SUBSYSTEM | 2;
pub const DESTROY: u16 = SUBSYSTEM | 3;
pub const FLUSH: u16 = SUBSYSTEM | 4;
const LIST: u16 = SUBSYSTEM | 7;
const ADD: u16 = SUBSYSTEM | 9;
const DELETE: u16 = SUBSYSTEM | 10;
const TYPE: u16 = SUBSYSTEM | 13;

/// Version of the protocol that every kernel since 2.6.39 speaks.
const PROTOCOL: u8 = 6;
/// NLA_F_NET_BYTEORDER: ipset insists that numbers say so.
const NETWORK_ORDER: u16 = 0x4000;
/// AF_INET and AF_INET6.
const FAMILY: [u8; 2] = [2, 10];
/// The type of all our sets: hosts and networks of any length side by side.
const TYPE_NAME: &str = "hash:net";

/// IPSET_ERR_FIND_TYPE, _BUSY, _INVALID_CIDR and _HASH_FULL.
pub const NO_TYPE: i32 = 4098;
pub const BUSY: i32 = 4100;
pub const BAD_LENGTH: i32 = 4104;
pub const FULL: i32 = 4352;

/// A set as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: String,
    /// IPv6, else IPv4.
    pub v6: bool,
    /// Of our type, with timeouts.
    pub fits: bool,
    /// Rules that look into it.
    pub references: u32,
    /// Elements in it, where the kernel tells.
    pub elements: Option<u32>,
}

/// One element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Hosts or network.
    pub prefix: Prefix,
    /// Seconds until the kernel takes it out, 0 for never; nothing: it shall go.
    pub seconds: Option<u32>,
}

fn begin(m: &mut Messages, kind: u16, flags: u16) -> u32 {
    let sequence = m.begin(kind, flags, FAMILY[0], 0);
    m.attribute(1, &[PROTOCOL]);
    sequence
}

/// Asks for the revisions of our type that the kernel knows.
pub fn ask_type(m: &mut Messages) {
    begin(m, TYPE, 0);
    m.text(3, TYPE_NAME);
    m.attribute(5, &[FAMILY[0]]);
    m.end();
}

/// The newest revision in the answer to [`ask_type`].
pub fn revision(message: &Incoming<'_>) -> Option<u8> {
    find(message.attributes(), 4)?.first().copied()
}

/// Makes a set; one that is there and is the same is no error.
pub fn create(m: &mut Messages, name: &str, v6: bool, revision: u8, limit: u32) {
    begin(m, CREATE, 0);
    m.text(2, name);
    m.text(3, TYPE_NAME);
    m.attribute(4, &[revision]);
    m.attribute(5, &[FAMILY[usize::from(v6)]]);
    m.nest(7, |m| {
        m.number(NETWORK_ORDER | 6, 0); // timeouts, by default none
        m.number(NETWORK_ORDER | 19, limit);
    });
    m.end();
}

/// [`DESTROY`] or [`FLUSH`].
pub fn about(m: &mut Messages, kind: u16, name: &str) {
    begin(m, kind, 0);
    m.text(2, name);
    m.end();
}

/// Asks for the descriptions of all sets.
pub fn ask_headers(m: &mut Messages) {
    begin(m, LIST, DUMP);
    m.number(NETWORK_ORDER | 6, 4); // IPSET_FLAG_LIST_HEADER
    m.end();
}

/// A description in the answer to [`ask_headers`].
pub fn header(message: &Incoming<'_>) -> Option<Header> {
    let all = message.attributes();
    let data = find(all, 7).unwrap_or_default();
    Some(Header {
        name: find_text(all, 2)?.to_owned(),
        v6: find(all, 5) == Some(&[FAMILY[1]]),
        fits: find_text(all, 3) == Some(TYPE_NAME) && find(data, 6).is_some(),
        references: find_number(data, 25).unwrap_or(0),
        elements: find_number(data, 24),
    })
}

/// Asks for the elements of a set.
pub fn ask_elements(m: &mut Messages, name: &str) {
    begin(m, LIST, DUMP);
    m.text(2, name);
    m.end();
}

/// Elements in the answer to [`ask_elements`].
pub fn elements<'a>(message: &Incoming<'a>) -> impl Iterator<Item = Element> + use<'a> {
    find(message.attributes(), 8).into_iter().flat_map(attributes).filter_map(|(_, data)| {
        let ip = find(data, 1)?;
        let address: IpAddr = match find(ip, 1) {
            Some(v4) => <[u8; 4]>::try_from(v4).ok()?.into(),
            None => <[u8; 16]>::try_from(find(ip, 2)?).ok()?.into(),
        };
        let most = if address.is_ipv6() { 128 } else { 32 };
        let length = find(data, 3).and_then(|length| length.first().copied()).unwrap_or(most);
        Some(Element { prefix: Prefix::new(address, length)?, seconds: find_number(data, 6) })
    })
}

/// Brings elements, or takes them; one that is there gets the new time, one that is not is no
/// error. What stands before a refused one is in effect; [`refused_line`] names that one.
pub fn change(m: &mut Messages, name: &str, elements: &[Element]) {
    let add = elements.first().is_some_and(|element| element.seconds.is_some());
    begin(m, if add { ADD } else { DELETE }, 0);
    m.text(2, name);
    m.number(NETWORK_ORDER | 9, 0); // the kernel writes the line of a refused element here
    m.nest(8, |m| {
        for (line, element) in elements.iter().enumerate() {
            m.nest(7, |m| {
                m.nest(1, |m| match element.prefix.address() {
                    IpAddr::V4(v4) => m.attribute(NETWORK_ORDER | 1, &v4.octets()),
                    IpAddr::V6(v6) => m.attribute(NETWORK_ORDER | 2, &v6.octets()),
                });
                m.attribute(3, &[element.prefix.length()]);
                element.seconds.into_iter().for_each(|seconds| m.number(NETWORK_ORDER | 6, seconds));
                m.number(NETWORK_ORDER | 9, line as u32 + 1);
            });
        }
    });
    m.end();
}

/// Index of the element that was refused; none if it was not about one.
pub fn refused_line(refusal: &Refusal) -> Option<usize> {
    // The request comes back whole: both headers, then attributes.
    let line = find_number(refusal.request.get(20..)?, 9)?;
    (line as usize).checked_sub(1)
}
