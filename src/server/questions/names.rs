//! Host names to addresses, as the machine's own resolver does it (`/etc/hosts`, `nsswitch.conf`, DNS).
//!
//! `getaddrinfo` cannot be given up: each look-up has a thread, and a thread that hangs keeps its
//! turn until the resolver lets go of it. That bounds the threads, and keeps a slow name server
//! from using up more than the turns of the jail that asked.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dns_lookup::LookupErrorKind;
use tokio::sync::{OnceCell, Semaphore, oneshot};

use crate::address::Prefix;

use super::bounded::Bounded;
use super::{distinct, lock};

/// So long a look-up is waited for, its turn included.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// So long a name's addresses, or that it has none, are remembered.
const VALID: Duration = Duration::from_secs(300);
/// So long it is remembered that nobody knew.
const UNKNOWN: Duration = Duration::from_secs(30);
/// How many names are remembered.
const MAX_NAMES: usize = 1000;
/// Addresses of one name that are used. Who owns a domain decides what its names point to.
const MAX_ADDRESSES: usize = 32;
/// Longest name that is looked up, in bytes.
const MAX_NAME: usize = 255;
/// Stack of a resolver thread, in bytes; name service modules take their share.
const STACK: usize = 512 * 1024;

/// What is known of a name.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its addresses, IPv4 and IPv6.
    pub addresses: Arc<[Prefix]>,
    /// Why there are none, or none newer.
    pub problem: Option<Arc<str>>,
    until: Instant,
}

/// A resolver with a memory.
pub struct Names {
    known: Mutex<Bounded<Arc<str>, Arc<OnceCell<Found>>>>,
    valid: Duration,
    unknown: Duration,
    deadline: Duration,
}

impl Default for Names {
    fn default() -> Names {
        Names { known: Mutex::new(Bounded::new(MAX_NAMES)), valid: VALID, unknown: UNKNOWN, deadline: DEADLINE }
    }
}

impl Names {
    /// The addresses of a name, and whether they were looked up just for this call. Those who ask at the
    /// same time share one look-up.
    ///
    /// When the resolver does not answer, what it said before goes on being true.
    pub async fn look_up(&self, name: &Arc<str>, turns: &Arc<Semaphore>) -> (Found, bool) {
        let (cell, before) = {
            let mut known = lock(&self.known);
            let old = known.get(name);
            match old.map(|cell| (cell, cell.get())) {
                // somebody looks already, or the answer is still good
                Some((cell, None)) => (cell.clone(), None),
                Some((cell, Some(found))) if found.until > Instant::now() => (cell.clone(), None),
                other => {
                    let before = other.and_then(|(_, found)| found.cloned());
                    let cell = Arc::new(OnceCell::new());
                    known.insert(name.clone(), cell.clone());
                    (cell, before)
                }
            }
        };
        let mut fresh = false;
        let found = cell
            .get_or_init(|| {
                fresh = true;
                self.ask(name, turns, before)
            })
            .await;
        (found.clone(), fresh)
    }

    async fn ask(&self, name: &Arc<str>, turns: &Arc<Semaphore>, before: Option<Found>) -> Found {
        let none = || Arc::from([]);
        let answer = tokio::time::timeout(self.deadline, resolve(name.clone(), turns.clone())).await;
        let (addresses, problem, valid) = match answer {
            Ok(Some(Ok(addresses))) => (addresses, None, self.valid),
            Ok(Some(Err((true, problem)))) => (none(), Some(problem), self.valid),
            Ok(Some(Err((false, problem)))) => (none(), Some(problem), self.unknown),
            Ok(None) => (none(), Some("the resolver could not be asked".into()), self.unknown),
            Err(_) => (none(), Some(format!("no answer within {:?}", self.deadline).into()), self.unknown),
        };
        let known = before.filter(|_| valid == self.unknown).map(|before| before.addresses);
        Found { addresses: known.unwrap_or(addresses), problem, until: Instant::now() + valid }
    }
}

/// Addresses, or whether it is certain that there are none and the reason.
type Resolved = Result<Arc<[Prefix]>, (bool, Arc<str>)>;

/// Asks the resolver in a thread, when it is our turn.
async fn resolve(name: Arc<str>, turns: Arc<Semaphore>) -> Option<Resolved> {
    if name.len() > MAX_NAME || name.contains('\0') {
        return Some(Err((true, "this is no host name".into())));
    }
    let turn = turns.acquire_owned().await.ok()?;
    let (tell, told) = oneshot::channel();
    let thread = move || {
        let resolved = match dns_lookup::lookup_host(&name) {
            Ok(addresses) => Ok(distinct(addresses, MAX_ADDRESSES)),
            Err(error) => {
                let certain = matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData);
                let number = error.error_num();
                let text = std::io::Error::from(error).to_string();
                let text = text.rsplit(": ").next().unwrap_or_default();
                Err((certain, format!("[Errno {number}] {text}").into()))
            }
        };
        drop(turn);
        // nobody may wait any more
        let _ = tell.send(resolved);
    };
    std::thread::Builder::new().name("resolver".to_owned()).stack_size(STACK).spawn(thread).ok()?;
    told.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1))
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_who_ask_and_then_remembered() {
        let names = Names::default();
        let (name, turns) = ("localhost".into(), one());
        let asked =
            tokio::join!(names.look_up(&name, &turns), names.look_up(&name, &turns), names.look_up(&name, &turns));
        assert!(asked.0.0.addresses.iter().any(|address| address.to_string() == "127.0.0.1"));
        assert_eq!([asked.0.1, asked.1.1, asked.2.1].iter().filter(|fresh| **fresh).count(), 1);
        assert!(!names.look_up(&name, &turns).await.1);
        let names = Names { valid: Duration::ZERO, ..Names::default() };
        assert!(names.look_up(&name, &turns).await.1 && names.look_up(&name, &turns).await.1, "no longer valid");
    }

    #[tokio::test]
    async fn numbers_are_names_to_the_resolver_and_nonsense_is_not() {
        let names = Names::default();
        let (found, _) = names.look_up(&"0x7f.1".into(), &one()).await;
        assert_eq!(found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1"]);
        for name in ["a\0b", &"x.".repeat(200)] {
            let (found, _) = names.look_up(&name.into(), &one()).await;
            assert!(found.addresses.is_empty() && found.problem.is_some());
        }
    }

    #[tokio::test]
    async fn without_an_answer_the_last_one_stays_true() {
        let names = Names { valid: Duration::ZERO, deadline: Duration::from_millis(50), ..Names::default() };
        let (name, turns) = ("127.0.0.1".into(), one());
        assert_eq!(names.look_up(&name, &turns).await.0.addresses.len(), 1);
        // all turns are taken by look-ups that hang
        let hung = turns.acquire().await;
        let (found, fresh) = names.look_up(&name, &turns).await;
        assert_eq!((found.addresses.len(), fresh), (1, true));
        assert!(found.problem.is_some_and(|problem| problem.contains("no answer within")));
        let (unknown, _) = names.look_up(&"127.0.0.2".into(), &turns).await;
        assert!(unknown.addresses.is_empty());
        drop(hung);
    }
}
