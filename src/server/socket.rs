//! The control socket: many clients at once, each of them asking the engine one thing at a time.
//!
//! Everything here waits; nothing decides. `ping` and `version` are answered at once, whatever the
//! engine does. A client that is slow, silent or says too much costs its own connection only.
//! Who may connect is the file's mode alone, which is right before anybody can: the owner's, or a group's as well.
//! Only the kernel knows all groups of whoever connects, and lists of rights that an administrator may have given. If
//! the file is opened to everybody all the same, those who connect are asked who they are.

use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::config::settings::Compat;
use crate::control::{self, Value};
use crate::fail2ban::protocol::{self, Encoding, Requests};

/// Connections at once; one more and the one that has been silent longest is closed.
pub const MAX_CONNECTIONS: usize = 1024;
/// Bytes of requests that are not whole yet, of all connections together.
pub const MAX_BUFFERED: usize = 4 * protocol::MAX_REQUEST;
/// A request that has begun goes on within this time.
const REQUEST_STALLS: Duration = Duration::from_secs(30);
/// A client takes some of a reply within this time.
const REPLY_STALLS: Duration = Duration::from_secs(30);
/// Replies under way at the end have this long to arrive.
const LAST_REPLIES: Duration = Duration::from_secs(1);
/// From this size on, in bytes, a request is decoded on another thread.
const LARGE: usize = 64 * 1024;
/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;

/// A command and where its answer goes.
///
/// If `reply` is dropped, the client is told that the server stops.
#[derive(Debug)]
pub struct Request {
    /// The words: `["status", "sshd"]`.
    pub command: Vec<Value>,
    /// Takes the answer.
    pub reply: oneshot::Sender<control::Reply>,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody answers there.
    #[error("a server is running already: it answers at `{}`", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name; it is left alone.
    #[error("`{}` is there and is no socket; remove it or name another path", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The settings name a group that does not exist.
    #[error("there is no group `{name}`, which is to use the control socket")]
    NoGroup {
        /// The name.
        name: String,
    },
    /// The file system or the kernel refuses.
    #[error("cannot make the control socket `{}`", path.display())]
    Make {
        /// The socket.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
}

/// A listening control socket; its file goes when this does.
#[derive(Debug)]
pub struct Socket {
    listener: std::os::unix::net::UnixListener,
    file: File,
    group: Option<Gid>,
    version: String,
    report: Report,
}

/// What is told of clients.
#[derive(Debug)]
pub enum Trouble<'a> {
    /// A request could not be read, for this reason.
    Unreadable(&'a str),
    /// This user came in by a file that is open to everybody.
    Stranger(u32),
}

/// Where trouble is told of.
#[derive(Clone)]
struct Report(Arc<dyn Fn(&Trouble<'_>) + Send + Sync>);

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}

/// The name in the file system, removed only while it is still ours.
#[derive(Debug)]
struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // if it cannot be removed, the next start replaces it
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Socket {
    /// Makes the socket's file, and its directory if that is missing, for the owner and a `group`. A socket that
    /// nobody listens at any more is replaced.
    ///
    /// # Errors
    /// If somebody listens there, something else has the name, the group does not exist, or the file cannot be made.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Socket, Error> {
        let group = group.map(known_group).transpose()?;
        let failed = |source| Error::Make { path: path.to_owned(), source };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.exists() {
            std::fs::DirBuilder::new().mode(0o755).create(directory).map_err(failed)?;
            if let Some(group) = group {
                open_to(group, directory, Mode::RWXU | Mode::RGRP | Mode::XGRP)
                    .map_err(|error| failed(error.into()))?;
            }
        }
        // two servers that start at once must not replace each other's socket
        let lock = std::fs::File::open(directory).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { path: path.to_owned() }),
            locked => locked.map_err(|error| failed(error.into()))?,
        }
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(Error::NotASocket { path: path.to_owned() });
            }
            match std::os::unix::net::UnixStream::connect(path) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                // one that is too busy to accept lives as well
                Ok(_) => return Err(Error::InUse { path: path.to_owned() }),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Error::InUse { path: path.to_owned() });
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let listener = listen(path, group).map_err(|error| failed(error.into()))?;
        let identity = identity(path).ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        Ok(Socket {
            listener: listener.into(),
            file: File { path: path.to_owned(), identity },
            group,
            version: Compat::default().version().to_owned(),
            report: Report(Arc::new(|_| {})),
        })
    }

    /// Has trouble with clients told of.
    #[must_use]
    pub fn with_report(mut self, report: impl Fn(&Trouble<'_>) + Send + Sync + 'static) -> Socket {
        self.report = Report(Arc::new(report));
        self
    }

    /// Sets what `version` is answered with.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Socket {
        version.clone_into(&mut self.version);
        self
    }

    /// Accepts clients and hands their commands over, until the receiver of `requests` is gone.
    /// Then replies under way are delivered and the file is removed.
    ///
    /// Needs a tokio runtime with I/O and time; one thread is enough.
    pub async fn serve(self, requests: mpsc::Sender<Request>) {
        // held to the end: the file goes last, and on every way out
        let file = self.file;
        let mut strangers = false;
        // fails only outside of a runtime or without descriptors; then there are no clients either
        let Ok(listener) = self.listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(self.listener))
        else {
            requests.closed().await;
            return;
        };
        let shared = Arc::new(Shared {
            requests: requests.clone(),
            version: self.version,
            report: self.report,
            buffered: AtomicUsize::new(0),
            start: Instant::now(),
        });
        let mut peers: Vec<Peer> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
                () = requests.closed() => break,
            };
            peers.retain(|peer| !peer.task.is_finished());
            let Ok((stream, _)) = accepted else {
                // mostly: no descriptors left; those of others come back
                close_most_silent(&mut peers);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Some(user) = file.stranger(&stream, self.group) {
                if !std::mem::replace(&mut strangers, true) {
                    (shared.report.0)(&Trouble::Stranger(user));
                }
                continue;
            }
            if peers.len() >= MAX_CONNECTIONS && !close_most_silent(&mut peers) {
                continue;
            }
            let silent_since = Arc::new(AtomicU64::new(shared.ticks()));
            let connection = Connection {
                stream,
                shared: shared.clone(),
                received: Requests::default(),
                counted: 0,
                silent_since: silent_since.clone(),
            };
            peers.push(Peer { task: tasks.spawn(connection.run()), silent_since });
        }
        drop(listener);
        // who has asked gets the answer; the others' connections end by themselves
        let _ = timeout(LAST_REPLIES, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

impl File {
    /// The user, if it is one whom nobody has let in: the file is open to everybody, and this is neither root, nor
    /// the server's user, nor of the group.
    fn stranger(&self, stream: &UnixStream, group: Option<Gid>) -> Option<u32> {
        let open =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.mode() & Mode::WOTH.as_raw_mode() != 0);
        if !open {
            return None;
        }
        // one of whom nothing is known is nobody's friend
        let Ok(peer) = stream.peer_cred() else { return Some(u32::MAX) };
        let known = peer.uid() == 0
            || peer.uid() == rustix::process::geteuid().as_raw()
            || group.is_some_and(|group| peer.gid() == group.as_raw());
        (!known).then_some(peer.uid())
    }
}

fn known_group(name: &str) -> Result<Gid, Error> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(Gid::from_raw(group.gid.as_raw())),
        _ => Err(Error::NoGroup { name: name.to_owned() }),
    }
}

/// Gives a file to a group, and then the mode to the file.
fn open_to(group: Gid, path: &Path, mode: Mode) -> Result<(), rustix::io::Errno> {
    rustix::fs::chownat(rustix::fs::CWD, path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmod(path, mode)
}

/// Mode 0600 from the beginning on: the kernel takes it from the socket's inode, so that no other
/// thread's files are touched as by a umask. What a group needs is added before anybody is listened to.
fn listen(path: &Path, group: Option<Gid>) -> Result<rustix::fd::OwnedFd, rustix::io::Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let owner = Mode::RUSR | Mode::WUSR;
    rustix::fs::fchmod(socket.as_fd(), owner)?;
    rustix::net::bind(&socket, &address)?;
    if let Some(group) = group {
        open_to(group, path, owner | Mode::RGRP | Mode::WGRP)?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// What `serve` remembers of a connection.
struct Peer {
    task: AbortHandle,
    /// When it began to wait for a request; [`BUSY`] while it has one.
    silent_since: Arc<AtomicU64>,
}

/// No time: a command is under way.
const BUSY: u64 = u64::MAX;

/// Makes room for another connection; false if all have commands under way.
fn close_most_silent(peers: &mut Vec<Peer>) -> bool {
    let since = |peer: &Peer| peer.silent_since.load(Ordering::Relaxed);
    let Some((index, longest)) = peers.iter().enumerate().min_by_key(|(_, peer)| since(peer)) else { return false };
    if since(longest) == BUSY {
        return false;
    }
    peers.swap_remove(index).task.abort();
    true
}

/// What all connections have in common.
struct Shared {
    requests: mpsc::Sender<Request>,
    version: String,
    report: Report,
    /// Bytes of requests that are not whole yet.
    buffered: AtomicUsize,
    start: Instant,
}

impl Shared {
    /// Microseconds since the start.
    fn ticks(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(BUSY - 1)
    }

    async fn answer(&self, words: Vec<Value>, encoding: Encoding) -> Vec<u8> {
        match words.first().and_then(Value::as_text) {
            Some("ping") => {
                let json = words.get(1).and_then(Value::as_text) == Some(protocol::JSON);
                let answer = if json { protocol::JSON } else { "pong" };
                return protocol::reply(encoding, &Ok(answer.into()));
            }
            Some("version") => return protocol::reply(encoding, &Ok(self.version.as_str().into())),
            _ => {}
        }
        let (sender, receiver) = oneshot::channel();
        // a full queue: this client waits, the others' pings do not
        if self.requests.send(Request { command: words, reply: sender }).await.is_err() {
            return protocol::shutdown(encoding);
        }
        match receiver.await {
            Ok(reply) => protocol::reply(encoding, &reply),
            Err(_) => protocol::shutdown(encoding),
        }
    }
}

/// One client.
struct Connection {
    stream: UnixStream,
    shared: Arc<Shared>,
    received: Requests,
    /// The part of `Shared::buffered` that is this connection's.
    counted: usize,
    silent_since: Arc<AtomicU64>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.buffered.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl Connection {
    async fn run(mut self) {
        let mut buffer = vec![0; 8192];
        loop {
            while let Some(request) = self.next_request().await {
                self.silent_since.store(BUSY, Ordering::Relaxed);
                let bytes = match request {
                    protocol::Request::Close => return,
                    protocol::Request::Refused { reply, why } => {
                        why.iter().for_each(|why| (self.shared.report.0)(&Trouble::Unreadable(why)));
                        reply
                    }
                    protocol::Request::Command { words, encoding } => self.shared.answer(words, encoding).await,
                };
                if !self.send(&bytes).await {
                    return;
                }
            }
            self.silent_since.store(self.shared.ticks(), Ordering::Relaxed);
            let waiting = if self.received.buffered() == 0 { Duration::MAX } else { REQUEST_STALLS };
            let read = tokio::select! {
                biased;
                read = timeout(waiting, self.stream.read(&mut buffer)) => read,
                () = self.shared.requests.closed() => return,
            };
            // the end, an error, or no end of a request in sight
            let Ok(Ok(length @ 1..)) = read else { return };
            if self.received.feed(&buffer[..length]).is_err() || !self.count() {
                return;
            }
        }
    }

    async fn next_request(&mut self) -> Option<protocol::Request> {
        let request = if self.received.buffered() < LARGE {
            self.received.next_request()
        } else {
            let mut received = std::mem::take(&mut self.received);
            let decoded = tokio::task::spawn_blocking(move || {
                let request = received.next_request();
                (received, request)
            });
            // it does not panic; if it did, the connection would end as after a wrong message
            let (received, request) = decoded.await.unwrap_or((Requests::default(), Some(protocol::Request::Close)));
            self.received = received;
            request
        };
        self.count();
        request
    }

    /// Keeps the sum of all connections' bytes; false if it is too large.
    fn count(&mut self) -> bool {
        let now = self.received.buffered();
        self.shared.buffered.fetch_add(now, Ordering::Relaxed);
        let all = self.shared.buffered.fetch_sub(self.counted, Ordering::Relaxed) - self.counted;
        self.counted = now;
        all <= MAX_BUFFERED || now < LARGE
    }

    /// False if the client is gone or does not read.
    async fn send(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match timeout(REPLY_STALLS, self.stream.write(bytes)).await {
                Ok(Ok(length @ 1..)) => bytes = &bytes[length..],
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "socket/tests.rs"]
mod tests;
