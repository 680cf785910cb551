//! Questions to name servers: who answers, who has nothing, and who says nothing at all.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;

/// So long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// So many records of an answer are looked at, and so many bytes of each.
const MOST_RECORDS: usize = 16;
const MOST_BYTES: usize = 4096;

/// A resolver.
#[derive(Debug)]
pub struct Dns {
    resolver: TokioResolver,
}

/// An answer to a question for texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Texts {
    /// The records, their strings joined (RFC 7208, 3.3, as all such zones mean it), and for how many seconds they hold.
    Found(Vec<Vec<u8>>, u32),
    /// There is none; for how many seconds that holds, if the zone says so.
    Missing(Option<u32>),
    /// Nobody answered, or not to the question: the reason in words.
    Silent(String),
}

impl Dns {
    /// Asks this server, or those of the system.
    ///
    /// # Errors
    /// If the system's settings cannot be read.
    pub fn new(server: Option<SocketAddr>) -> Result<Dns, String> {
        let mut builder = match server {
            Some(server) => {
                let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
                name_server.connections.iter_mut().for_each(|connection| connection.port = server.port());
                let config = ResolverConfig::from_name_servers(vec![name_server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio()
                .map_err(|error| format!("cannot read the system's resolver settings: {error}"))?,
        };
        let options = builder.options_mut();
        options.timeout = PATIENCE / 2;
        options.attempts = 1;
        options.edns0 = true;
        // what is known is kept by whoever asks
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(|error| format!("cannot use the resolver: {error}"))?;
        Ok(Dns { resolver })
    }

    /// The TXT records of a name.
    pub async fn texts(&self, name: &str) -> Texts {
        let answer = tokio::time::timeout(PATIENCE, self.resolver.txt_lookup(format!("{name}."))).await;
        match answer {
            Err(_) => Texts::Silent(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Ok(lookup)) => {
                let mut ttl = u32::MAX;
                let mut texts = Vec::new();
                for record in lookup.answers() {
                    if let RData::TXT(txt) = &record.data
                        && texts.len() < MOST_RECORDS
                    {
                        let bytes = txt.txt_data.iter().flat_map(|part| part.iter().copied());
                        texts.push(bytes.take(MOST_BYTES).collect());
                        ttl = ttl.min(record.ttl);
                    }
                }
                if texts.is_empty() { Texts::Missing(None) } else { Texts::Found(texts, ttl) }
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => match none.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => Texts::Missing(none.negative_ttl),
                code => Texts::Silent(format!("the name server answers {code}")),
            },
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => {
                Texts::Silent(format!("the name server answers {code}"))
            }
            Ok(Err(error)) => Texts::Silent(error.to_string()),
        }
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// If there are none or nobody says so.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match tokio::time::timeout(PATIENCE, self.resolver.lookup_ip(format!("{}.", host.trim_end_matches('.')))).await
        {
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(found)) => Ok(found.iter().take(MOST_RECORDS).collect()),
        }
    }
}

/// The name of an address below a zone: its octets or, of IPv6, its nibbles, the last first (RFC 5782, 2.1 and 2.4).
#[must_use]
pub fn reversed(address: IpAddr, zone: &str) -> String {
    let name: String = match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(|octet| format!("{octet}.")).collect(),
        IpAddr::V6(v6) => v6.octets().iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4)).collect(),
    };
    name + zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_backwards() {
        let name = |text: &str| text.parse().map(|address| reversed(address, "z.example"));
        assert_eq!(name("192.0.2.7").as_deref(), Ok("7.2.0.192.z.example"));
        assert_eq!(name("::ffff:192.0.2.7").as_deref(), Ok("7.2.0.192.z.example"));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.z.example";
        assert_eq!(name("2001:db8::1").as_deref(), Ok(v6));
    }
}
