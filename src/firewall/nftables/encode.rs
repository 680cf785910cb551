//! nf_tables messages: table, chains, sets, rules, elements.
//!
//! The numbers are those of `linux/netfilter/nf_tables.h`, whose names the comments give.

use super::super::Verdict;
use super::super::netlink::{APPEND, CREATE, DUMP, Messages};
use super::ruleset::{Class, Lookup};
use crate::address::Prefix;
use std::net::IpAddr;

pub const SUBSYSTEM: u16 = 10 << 8;
pub const NEWTABLE: u16 = SUBSYSTEM;
pub const GETTABLE: u16 = SUBSYSTEM | 1;
pub const DELTABLE: u16 = SUBSYSTEM | 2;
pub const NEWCHAIN: u16 = SUBSYSTEM | 3;
pub const GETCHAIN: u16 = SUBSYSTEM | 4;
pub const DELCHAIN: u16 = SUBSYSTEM | 5;
pub const NEWRULE: u16 = SUBSYSTEM | 6;
pub const GETRULE: u16 = SUBSYSTEM | 7;
pub const DELRULE: u16 = SUBSYSTEM | 8;
pub const NEWSET: u16 = SUBSYSTEM | 9;
pub const GETSET: u16 = SUBSYSTEM | 10;
pub const DELSET: u16 = SUBSYSTEM | 11;
pub const NEWSETELEM: u16 = SUBSYSTEM | 12;
pub const GETSETELEM: u16 = SUBSYSTEM | 13;
pub const DELSETELEM: u16 = SUBSYSTEM | 14;
pub const NEWGEN: u16 = SUBSYSTEM | 15;
pub const GETGEN: u16 = SUBSYSTEM | 16;
pub const DESTROYSETELEM: u16 = SUBSYSTEM | 30;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

pub const INET: u8 = 1;
/// NFT_TABLE_F_OWNER and NFT_TABLE_F_PERSIST.
pub const OWNER: u32 = 2;
pub const PERSIST: u32 = 4;
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const TIMEOUT: u32 = 0x10;
const CONCAT: u32 = 0x80;
/// Flags of a set of bans and of the port map.
pub const BANS: u32 = TIMEOUT;
pub const PORTS: u32 = INTERVAL | MAP | CONCAT;
/// The port map's name, and the chains of ours that are no segment's.
pub const MAP_NAME: &str = "ports";
pub const BASE: &str = "prerouting";
const REJECT: &str = "reject";
const RESET: &str = "reset";
pub const FIXED_CHAINS: [&str; 3] = [BASE, REJECT, RESET];

/// Expired bans hold memory until a sweep; sweeping a million costs 65 ms.
const SWEEP_MILLISECONDS: u32 = 30_000;
/// Answers a second, over all jails; what is beyond is dropped. A reject goes to whoever the
/// packet says it comes from.
const ANSWERS: u64 = 100;
const ANSWERS_AT_ONCE: u32 = 100;

const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_GOTO: i32 = -4;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Writes messages about one table.
pub struct Encoder<'a> {
    /// Where they go.
    pub to: &'a mut Messages,
    /// The table's name.
    pub table: &'a str,
    /// Whether the kernel can answer from prerouting; else it drops.
    pub reject: bool,
}

impl Encoder<'_> {
    pub fn batch_begin(&mut self) {
        self.to.begin(BATCH_BEGIN, 0, 0, 10);
        self.to.end();
    }

    pub fn batch_end(&mut self) {
        self.to.begin(BATCH_END, 0, 0, 10);
        self.to.end();
    }

    fn message(&mut self, kind: u16, flags: u16, inside: impl FnOnce(&mut Messages)) -> u32 {
        let sequence = self.to.begin(kind, flags, INET, 0);
        self.to.text(1, self.table); // NFTA_*_TABLE is 1 throughout, and so is NFTA_TABLE_NAME
        inside(self.to);
        self.to.end();
        sequence
    }

    pub fn new_table(&mut self, flags: u32) -> u32 {
        self.message(NEWTABLE, CREATE, |m| m.number(2, flags))
    }

    pub fn about_table(&mut self, kind: u16) -> u32 {
        self.message(kind, 0, |_| {})
    }

    pub fn generation(&mut self) {
        self.to.begin(GETGEN, 0, 0, 0);
        self.to.end();
    }

    /// Asks for all chains, sets or rules; of this table only where the kernel can tell.
    pub fn dump(&mut self, kind: u16) {
        self.message(kind, DUMP, |_| {});
    }

    pub fn base_chain(&mut self, priority: i32) -> u32 {
        self.message(NEWCHAIN, CREATE, |m| {
            m.text(3, BASE);
            m.nest(4, |m| {
                m.number(1, 0); // NF_INET_PRE_ROUTING
                m.attribute(2, &priority.to_be_bytes());
            });
            m.number(5, NF_ACCEPT as u32);
            m.text(7, "filter");
        })
    }

    pub fn new_chain(&mut self, name: &str) -> u32 {
        self.message(NEWCHAIN, CREATE, |m| m.text(3, name))
    }

    pub fn delete_chain(&mut self, name: &str) -> u32 {
        self.message(DELCHAIN, 0, |m| m.text(3, name))
    }

    /// Takes the rules out of a chain, or out of all.
    pub fn flush_chain(&mut self, name: Option<&str>) -> u32 {
        self.message(DELRULE, 0, |m| name.into_iter().for_each(|name| m.text(2, name)))
    }

    /// A set of bans that holds at most `limit`.
    pub fn new_set(&mut self, name: &str, class: Class, limit: u32) {
        let set = |m: &mut Messages, size: Option<u32>| {
            m.text(2, name);
            m.number(3, BANS);
            m.number(4, if class.v6 { 8 } else { 7 }); // nft's words for ipv6_addr, ipv4_addr
            m.number(5, class.bytes() as u32);
            if let Some(size) = size {
                m.nest(9, |m| m.number(1, size));
            }
            m.number(10, 1); // NFTA_SET_ID
            m.number(12, SWEEP_MILLISECONDS);
        };
        self.message(NEWSET, CREATE, |m| set(m, None));
        // The kernel takes a size given at birth as the number of buckets to start with, some
        // megabytes a set; given later it is only a limit (older kernels do not heed it).
        self.message(NEWSET, CREATE, |m| set(m, Some(limit)));
    }

    pub fn new_map(&mut self) -> u32 {
        self.message(NEWSET, CREATE, |m| {
            m.text(2, MAP_NAME);
            m.number(3, PORTS);
            m.number(4, 12 << 6 | 13); // inet_proto . inet_service
            m.number(5, 8);
            m.number(6, 0xffff_ff00); // NFT_DATA_VERDICT
            m.nest(9, |m| {
                m.nest(2, |m| {
                    m.nest(1, |m| m.number(1, 1));
                    m.nest(1, |m| m.number(1, 2));
                });
            });
            m.number(10, 2);
        })
    }

    pub fn delete_set(&mut self, name: &str) -> u32 {
        self.message(DELSET, 0, |m| m.text(2, name))
    }

    pub fn flush_set(&mut self, name: &str) -> u32 {
        self.message(DELSETELEM, 0, |m| m.text(2, name))
    }

    /// Reads a set.
    pub fn dump_set(&mut self, name: &str) {
        self.message(GETSETELEM, DUMP, |m| m.text(2, name));
    }

    /// A segment of the port map appears (with its chain) or goes.
    pub fn segment(&mut self, (protocol, first, last): (u8, u16, u16), chain: Option<&str>) -> u32 {
        let kind = if chain.is_some() { NEWSETELEM } else { DELSETELEM };
        let key = |port: u16| {
            let [high, low] = port.to_be_bytes();
            [protocol, 0, 0, 0, high, low, 0, 0]
        };
        self.message(kind, CREATE, |m| {
            m.text(2, MAP_NAME);
            m.nest(3, |m| {
                m.nest(1, |m| {
                    m.nest(1, |m| m.attribute(1, &key(first)));
                    if let Some(chain) = chain {
                        m.nest(2, |m| goto_data(m, chain));
                    }
                    m.nest(10, |m| m.attribute(1, &key(last)));
                });
            });
        })
    }

    /// Elements of a set; `bound` is told the offset where the first begins and where each ends.
    pub fn elements<'e>(
        &mut self,
        kind: u16,
        set: &str,
        elements: impl Iterator<Item = (&'e Prefix, Option<u64>)>,
        mut bound: impl FnMut(usize),
    ) -> u32 {
        self.message(kind, CREATE, |m| {
            m.text(2, set);
            m.nest(3, |m| {
                bound(m.offset());
                for (prefix, milliseconds) in elements {
                    m.nest(1, |m| {
                        m.nest(1, |m| match prefix.address() {
                            IpAddr::V4(v4) => m.attribute(1, &v4.octets()),
                            IpAddr::V6(v6) => m.attribute(1, &v6.octets()),
                        });
                        if let Some(milliseconds) = milliseconds {
                            m.long(4, milliseconds);
                        }
                    });
                    bound(m.offset());
                }
            });
        })
    }

    fn rule(&mut self, chain: &str, expressions: impl FnOnce(&mut Expressions<'_>)) -> u32 {
        self.message(NEWRULE, CREATE | APPEND, |m| {
            m.text(2, chain);
            m.nest(4, |m| expressions(&mut Expressions(m)));
        })
    }

    /// The chains that answer, and the first rules of the base chain; the number of rules.
    pub fn fixed_rules(&mut self) -> usize {
        // Neighbour discovery and multicast listeners: shutting out a neighbour on the link for
        // all ports must not make it unreachable for ourselves.
        self.rule(BASE, |e| {
            e.protocol(0, ICMPV6);
            e.load_transport(0, 1);
            e.between(&[130], &[137]);
            e.verdict(NF_ACCEPT, None);
        });
        self.rule(BASE, |e| {
            e.protocol(0, ICMPV6);
            e.load_transport(0, 1);
            e.compare(0, &[143]);
            e.verdict(NF_ACCEPT, None);
        });
        for (chain, protocol, answer) in
            [(RESET, Some(TCP), (1, None)), (RESET, None, (2, Some(1))), (REJECT, None, (2, Some(1)))]
        {
            let reject = self.reject;
            self.rule(chain, |e| {
                protocol.into_iter().for_each(|protocol| e.protocol(0, protocol));
                e.limit();
                e.counter();
                if reject { e.reject(answer.0, answer.1) } else { e.verdict(NF_DROP, None) }
            });
            self.rule(chain, |e| {
                protocol.into_iter().for_each(|protocol| e.protocol(0, protocol));
                e.counter();
                e.verdict(NF_DROP, None);
            });
        }
        8
    }

    /// The rule that answers, for the probe.
    pub fn probe_reject(&mut self) {
        self.rule(BASE, |e| e.reject(2, Some(1)));
    }

    pub fn port_rule(&mut self) -> u32 {
        self.rule(BASE, |e| {
            e.meta(16);
            e.payload(2, 2, 2, 9); // the next four bytes of the same register
            e.lookup(MAP_NAME, true);
        })
    }

    pub fn lookup_rule(&mut self, chain: &str, lookup: &Lookup) -> u32 {
        self.rule(chain, |e| {
            e.meta(15);
            e.compare(0, &[if lookup.class.v6 { 10 } else { 2 }]);
            e.payload(1, if lookup.class.v6 { 8 } else { 12 }, lookup.class.bytes() as u32, 1);
            if !lookup.class.is_hosts() {
                e.mask(lookup.class);
            }
            e.lookup(&lookup.set, false);
            e.counter();
            match lookup.verdict {
                Verdict::Drop => e.verdict(NF_DROP, None),
                Verdict::Reject => e.verdict(NFT_GOTO, Some(REJECT)),
                Verdict::RejectReset => e.verdict(NFT_GOTO, Some(RESET)),
            }
        })
    }
}

fn goto_data(m: &mut Messages, chain: &str) {
    m.nest(2, |m| {
        m.attribute(1, &NFT_GOTO.to_be_bytes());
        m.text(2, chain);
    });
}

/// The expressions of one rule; values pass through register 1.
struct Expressions<'a>(&'a mut Messages);

impl Expressions<'_> {
    fn add(&mut self, name: &str, data: impl FnOnce(&mut Messages)) {
        self.0.nest(1, |m| {
            m.text(1, name);
            m.nest(2, data);
        });
    }

    fn meta(&mut self, key: u32) {
        self.add("meta", |m| {
            m.number(1, 1);
            m.number(2, key);
        });
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.add("cmp", |m| {
            m.number(1, 1);
            m.number(2, operator);
            m.nest(3, |m| m.attribute(1, value));
        });
    }

    fn between(&mut self, first: &[u8], last: &[u8]) {
        self.add("range", |m| {
            m.number(1, 1);
            m.number(2, 0);
            m.nest(3, |m| m.attribute(1, first));
            m.nest(4, |m| m.attribute(1, last));
        });
    }

    fn protocol(&mut self, operator: u32, protocol: u8) {
        self.meta(16);
        self.compare(operator, &[protocol]);
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.add("payload", |m| {
            m.number(1, register);
            m.number(2, base);
            m.number(3, offset);
            m.number(4, length);
        });
    }

    fn load_transport(&mut self, offset: u32, length: u32) {
        self.payload(2, offset, length, 1);
    }

    fn mask(&mut self, class: Class) {
        let ones = u128::MAX.checked_shl(128 - u32::from(class.length)).unwrap_or(0).to_be_bytes();
        self.add("bitwise", |m| {
            m.number(1, 1);
            m.number(2, 1);
            m.number(3, class.bytes() as u32);
            m.nest(4, |m| m.attribute(1, &ones[..class.bytes()]));
            m.nest(5, |m| m.attribute(1, &[0; 16][..class.bytes()]));
        });
    }

    fn lookup(&mut self, set: &str, verdict: bool) {
        self.add("lookup", |m| {
            m.text(1, set);
            m.number(2, 1);
            if verdict {
                m.number(3, 0);
            }
        });
    }

    fn counter(&mut self) {
        self.add("counter", |_| {});
    }

    fn limit(&mut self) {
        self.add("limit", |m| {
            m.long(1, ANSWERS);
            m.long(2, 1);
            m.number(3, ANSWERS_AT_ONCE);
            m.number(4, 0);
        });
    }

    fn reject(&mut self, kind: u32, code: Option<u8>) {
        self.add("reject", |m| {
            m.number(1, kind);
            code.into_iter().for_each(|code| m.attribute(2, &[code]));
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.add("immediate", |m| {
            m.number(1, 0);
            m.nest(2, |m| {
                m.nest(2, |m| {
                    m.attribute(1, &code.to_be_bytes());
                    chain.into_iter().for_each(|chain| m.text(2, chain));
                });
            });
        });
    }
}
