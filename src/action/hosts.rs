//! Names of addresses and of this machine, for the commands that show them.
//!
//! The resolver is asked only for commands that contain such a tag, in a thread that is waited for
//! no longer than [`DEADLINE`]. Who owns an address decides what its name is: what no host name
//! could be is none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, Semaphore, oneshot};

/// So long a look-up is waited for, its turn included.
const DEADLINE: Duration = Duration::from_secs(5);
/// So long a name, or that there is none, is remembered.
const VALID: Duration = Duration::from_secs(300);
/// How many names are remembered.
const MAX_KNOWN: usize = 1000;
/// Look-ups at the same time; one that hangs keeps its turn until the resolver lets go of it.
const TURNS: usize = 4;
/// Longest host name, in bytes.
const MAX_NAME: usize = 253;
/// `AI_CANONNAME` of `getaddrinfo`, the same in all C libraries of Linux.
const CANONICAL: i32 = 2;

/// A name, or that there is none, and until when that is remembered.
type Known = (Instant, Option<Arc<str>>);

/// A resolver with a memory.
#[derive(Debug)]
pub struct Hosts {
    known: Mutex<HashMap<IpAddr, Known>>,
    own: OnceCell<Arc<str>>,
    turns: Arc<Semaphore>,
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts { known: Mutex::default(), own: OnceCell::new(), turns: Arc::new(Semaphore::new(TURNS)) }
    }
}

impl Hosts {
    /// The name of an address, if it has one.
    pub async fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        if let Some((until, name)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&address)
            && *until > Instant::now()
        {
            return name.clone();
        }
        let name = self.ask(move || dns_lookup::lookup_addr(&address).ok()).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(address, (Instant::now() + VALID, name.clone()));
        name
    }

    /// The full name of this machine, as `hostname -f` tells it.
    pub async fn own(&self) -> Arc<str> {
        let full = self.own.get_or_init(|| async {
            let short = short();
            let asked = short.clone();
            let hints = dns_lookup::AddrInfoHints { flags: CANONICAL, ..Default::default() };
            let canonical =
                move || dns_lookup::getaddrinfo(Some(&asked), None, Some(hints)).ok()?.flatten().next()?.canonname;
            self.ask(canonical).await.unwrap_or(short.into())
        });
        full.await.clone()
    }

    /// Has the resolver answer in a thread, when it is our turn.
    async fn ask(&self, question: impl FnOnce() -> Option<String> + Send + 'static) -> Option<Arc<str>> {
        let turns = self.turns.clone();
        let asked = async {
            let turn = turns.acquire_owned().await.ok()?;
            let (tell, told) = oneshot::channel();
            let thread = move || {
                let answer = question();
                drop(turn);
                // nobody may wait any more
                let _ = tell.send(answer);
            };
            std::thread::Builder::new().name("resolver".to_owned()).spawn(thread).ok()?;
            told.await.ok().flatten()
        };
        tokio::time::timeout(DEADLINE, asked).await.ok().flatten().filter(|name| is_name(name)).map(Arc::from)
    }
}

/// The name of this machine as the kernel has it.
#[must_use]
pub fn short() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_name(&name) { name } else { "localhost".to_owned() }
}

/// Whether a text can be a host name. The resolver gives the address itself where there is no name.
fn is_name(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=MAX_NAME).contains(&text.len())
        && text.parse::<IpAddr>().is_err()
        && !text.starts_with('-')
        && text.chars().all(valid)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_have_names_or_none() {
        let hosts = Hosts::default();
        let name = hosts.name("127.0.0.1".parse().unwrap()).await;
        assert_eq!(name.as_deref(), Some("localhost"));
        assert_eq!(hosts.name("192.0.2.77".parse().unwrap()).await, None);
        assert_eq!(hosts.known.lock().unwrap().len(), 2, "both are remembered");
    }

    #[test]
    fn what_is_no_host_name_is_none() {
        for text in ["a.example.org", "x_y-z", "localhost"] {
            assert!(is_name(text), "{text}");
        }
        for text in ["", "192.0.2.1", "::1", "$(id)", "a b", "a\nSubject: x", "-rf", "a;b", &"x".repeat(300)] {
            assert!(!is_name(text), "{text}");
        }
    }
}
