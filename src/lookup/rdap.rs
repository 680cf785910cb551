//! Registries, asked over RDAP (RFC 7480, 9082): the directory says which one has an address.
//!
//! Links come from outside and could lead anywhere, into our own network too: we connect only to public
//! addresses, follow few redirects, none of them from https to http, and read no more than [`MOST_BYTES`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, StatusCode, Url, header, redirect};

use super::dns::Dns;
use super::special;
use crate::config::contact::Contact;

pub mod answer;

use answer::Network;

/// So long a registry may take, redirects included.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
pub const MOST_BYTES: usize = 1 << 20;
/// Most redirects.
const MOST_REDIRECTS: usize = 5;
/// So long a directory is used.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// So long a registry is left alone that asked for it without saying how long, and at most.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A client of the registries.
#[derive(Debug)]
pub struct Rdap {
    client: Client,
    settings: Contact,
    /// Directories by the names of their files.
    directories: Mutex<HashMap<&'static str, Directory>>,
    /// Hosts that asked to be left alone, and until when.
    pauses: Mutex<HashMap<String, Instant>>,
}

/// When a directory was read, and its text.
type Directory = (Instant, Arc<[u8]>);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the registry knows of the network.
    Found(Network),
    /// No registry knows it.
    Missing,
    /// Nobody answered, or not to the question: the reason in words; not to be asked again for so many seconds.
    Silent(String, Option<u64>),
}

/// Names lead only to public addresses.
#[derive(Debug)]
struct Public {
    dns: Arc<Dns>,
    settings: Contact,
}

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let (dns, settings) = (self.dns.clone(), self.settings.clone());
        Box::pin(async move {
            let found = dns.addresses(name.as_str()).await?;
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|ip| may_connect(&settings, *ip)).map(|ip| SocketAddr::new(ip, 0)).collect();
            if allowed.is_empty() {
                return Err(format!("`{}` has no public address", name.as_str().escape_default()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn may_connect(settings: &Contact, address: IpAddr) -> bool {
    special::purpose(address).is_none() || settings.is_excepted(address)
}

impl Rdap {
    /// For these settings; host names are asked for with `dns`.
    ///
    /// # Errors
    /// If there is no TLS.
    pub fn new(settings: &Contact, dns: Arc<Dns>) -> Result<Rdap, String> {
        // another part of the program may have chosen it already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("sekimori/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .dns_resolver(Public { dns, settings: settings.clone() })
            .build()
            .map_err(|error| format!("cannot make an HTTPS client: {}", words(&error)))?;
        Ok(Rdap { client, settings: settings.clone(), directories: Mutex::default(), pauses: Mutex::default() })
    }

    /// Whom the registry names for an address.
    pub async fn network(&self, address: IpAddr) -> Answer {
        let answer = tokio::time::timeout(PATIENCE * 2, self.ask(address)).await;
        answer.unwrap_or_else(|_| Answer::Silent(format!("no answer within {} s", (PATIENCE * 2).as_secs()), None))
    }

    async fn ask(&self, address: IpAddr) -> Answer {
        let directory = match self.directory(address).await {
            Ok(directory) => directory,
            Err(silent) => return silent,
        };
        let servers = match answer::servers(&directory, address) {
            Ok(servers) => servers,
            Err(text) => return Answer::Silent(text, None),
        };
        let plain = self.settings.rdap.starts_with("http://");
        let mut urls = servers.iter().filter_map(|server| Url::parse(server).ok()?.join(&format!("ip/{address}")).ok());
        match urls.find(|url| url.scheme() == "https" || plain && url.scheme() == "http") {
            None if servers.is_empty() => Answer::Missing,
            None => Answer::Silent("the directory names no https server".to_owned(), None),
            Some(url) => match self.get(url).await {
                Err(Answer::Missing) => Answer::Missing,
                Err(silent) => silent,
                Ok(body) => answer::network(&body).map_or_else(|text| Answer::Silent(text, None), Answer::Found),
            },
        }
    }

    /// The directory for the family of an address.
    async fn directory(&self, address: IpAddr) -> Result<Arc<[u8]>, Answer> {
        let file = if address.is_ipv4() { "ipv4.json" } else { "ipv6.json" };
        let known = self.directories.lock().unwrap_or_else(PoisonError::into_inner).get(file).cloned();
        match &known {
            Some((read, directory)) if read.elapsed() < DAY => return Ok(directory.clone()),
            _ => {}
        }
        let url = Url::parse(&self.settings.rdap).and_then(|base| base.join(file));
        let url = url.map_err(|error| Answer::Silent(format!("`rdap` in the settings: {error}"), None))?;
        let fresh: Result<Arc<[u8]>, Answer> = match self.get(url).await {
            Ok(body) => Ok(body.into()),
            Err(Answer::Missing) => Err(Answer::Silent(format!("the directory {file} is not there"), None)),
            Err(silent) => Err(silent),
        };
        match (fresh, known) {
            (Ok(directory), _) => {
                let kept = (Instant::now(), directory.clone());
                self.directories.lock().unwrap_or_else(PoisonError::into_inner).insert(file, kept);
                Ok(directory)
            }
            // an old directory is better than none
            (Err(_), Some((_, directory))) => Ok(directory),
            (Err(silent), None) => Err(silent),
        }
    }

    /// The body at an URL, or where that leads.
    async fn get(&self, mut url: Url) -> Result<Vec<u8>, Answer> {
        for _ in 0..=MOST_REDIRECTS {
            let host = self.host(&url)?;
            let request =
                self.client.get(url.clone()).header(header::ACCEPT, "application/rdap+json, application/json");
            let mut response = request.send().await.map_err(|error| silent(&host, &words(&error)))?;
            let status = response.status();
            if status.is_redirection() {
                let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                let next = next.ok_or_else(|| silent(&host, "redirects to nowhere"))?;
                if next.scheme() != "https" && !(next.scheme() == "http" && url.scheme() == "http") {
                    return Err(silent(&host, "redirects to what is not https"));
                }
                url = next;
                continue;
            }
            return match status {
                StatusCode::OK => {
                    let mut body = Vec::new();
                    while let Some(chunk) = response.chunk().await.map_err(|error| silent(&host, &words(&error)))? {
                        if body.len() + chunk.len() > MOST_BYTES {
                            return Err(silent(&host, "answers with more than 1 MiB"));
                        }
                        body.extend_from_slice(&chunk);
                    }
                    Ok(body)
                }
                StatusCode::NOT_FOUND => Err(Answer::Missing),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    let after = response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
                    let pause = after.and_then(seconds).map_or(PAUSE, Duration::from_secs).min(LONGEST_PAUSE);
                    let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
                    pauses.retain(|_, until| *until > Instant::now());
                    pauses.insert(host.clone(), Instant::now() + pause);
                    Err(Answer::Silent(
                        format!("{host} asks to be left alone for {} s", pause.as_secs()),
                        Some(pause.as_secs()),
                    ))
                }
                other => Err(silent(&host, &format!("answers {other}"))),
            };
        }
        Err(Answer::Silent(format!("more than {MOST_REDIRECTS} redirects"), None))
    }

    /// The host of an URL, if we may connect to it now.
    fn host(&self, url: &Url) -> Result<String, Answer> {
        let host = url.host_str().unwrap_or("").to_owned();
        // addresses in place of names never reach the resolver
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse()
            && !may_connect(&self.settings, address)
        {
            return Err(silent(&host, "is not a public address"));
        }
        let until = self.pauses.lock().unwrap_or_else(PoisonError::into_inner).get(&host).copied();
        match until.map(|until| until.saturating_duration_since(Instant::now()).as_secs()) {
            Some(left) if left > 0 => {
                Err(Answer::Silent(format!("{host} asked to be left alone for another {left} s"), Some(left)))
            }
            _ => Ok(host),
        }
    }
}

fn silent(host: &str, what: &str) -> Answer {
    Answer::Silent(format!("{} {what}", host.escape_default()), None)
}

/// An error and its causes; those of the libraries tell the same only one level up.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut text = String::new();
    while let Some(next) = cause.source() {
        text = next.to_string();
        cause = next;
    }
    let text = if error.is_timeout() { "takes too long".to_owned() } else { text };
    if text.is_empty() { error.to_string() } else { text }
}

/// `Retry-After` (RFC 9110, 10.2.3) in seconds; a date counts as none.
fn seconds(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}
