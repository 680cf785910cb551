//! A connection to a server, ours or Fail2Ban's: commands out, answers in, one after the other.
//!
//! Ours is talked to in lines of JSON, Fail2Ban's in pickles. Which one listens is asked by a `ping` that both
//! understand: a message that Fail2Ban's cannot read would be an error in its log.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::{Reply, Value};
use crate::fail2ban::protocol::{self, Encoding, Replies, TooLong, Unreadable};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody has ever listened there, or not any more.
    #[error("Failed to access socket path: {}. Is fail2ban running?", path.display())]
    Missing {
        /// The socket.
        path: PathBuf,
    },
    /// The file's mode keeps us out.
    #[error("Permission denied to socket: {}, (you must be root)", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file, but the conversation failed.
    #[error("[{}] Unable to contact server. Is it running?", io_text(source))]
    Contact {
        /// What happened.
        source: io::Error,
    },
    /// What came is no answer.
    #[error("cannot read the answer: {0}")]
    Answer(#[from] Unreadable),
    /// What came is too much of an answer.
    #[error("cannot read the answer: {0}")]
    TooLong(#[from] TooLong),
}

/// An error of the system in Python's words, as scripts know them.
#[must_use]
pub fn io_text(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (_, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => "timed out".to_owned(),
        (Some(number), _) => {
            let text = error.to_string();
            format!("[Errno {number}] {}", text.split(" (os error").next().unwrap_or(&text))
        }
        (None, _) => error.to_string(),
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    path: PathBuf,
    stream: UnixStream,
    encoding: Encoding,
    replies: Replies,
}

impl Connection {
    /// Connects, and finds out who listens. With a `timeout`, each answer has to come within it.
    ///
    /// # Errors
    /// If nobody listens at `path`, we may not connect, or the connection breaks.
    pub fn open(path: &Path, timeout: Option<Duration>) -> Result<Connection, Error> {
        let open = || {
            let stream = UnixStream::connect(path)?;
            // zero would mean no limit
            let timeout = timeout.map(|time| time.max(Duration::from_millis(1)));
            stream.set_read_timeout(timeout)?;
            stream.set_write_timeout(timeout)?;
            Ok(stream)
        };
        let stream = open().map_err(|source| explain(path, source))?;
        let encoding = Encoding::Pickle;
        let mut server = Connection { path: path.to_owned(), stream, encoding, replies: Replies::to(encoding) };
        if server.ask(&["ping".into(), protocol::JSON.into()])? == Ok(protocol::JSON.into()) {
            server.encoding = Encoding::Json;
            server.replies = Replies::to(Encoding::Json);
        }
        Ok(server)
    }

    /// The process that listens at the other end, if the kernel can name it.
    #[must_use]
    pub fn peer(&self) -> Option<rustix::process::Pid> {
        rustix::net::sockopt::socket_peercred(&self.stream).ok().map(|peer| peer.pid)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// If the connection breaks, or the answer cannot be read.
    pub fn ask(&mut self, words: &[Value]) -> Result<Reply, Error> {
        let request = match self.encoding {
            Encoding::Pickle => protocol::request(words),
            Encoding::Json => protocol::json_request(words),
        };
        self.stream.write_all(&request).map_err(|source| explain(&self.path, source))?;
        let mut buffer = [0; 32 * 1024];
        loop {
            if let Some(reply) = self.replies.next_reply() {
                return Ok(reply?);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    let source = io::Error::from(rustix::io::Errno::CONNRESET);
                    return Err(explain(&self.path, source));
                }
                Ok(length) => self.replies.feed(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(explain(&self.path, source)),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // the server would notice anyway
        if self.encoding == Encoding::Pickle {
            let _ = self.stream.write_all(&protocol::close());
        }
    }
}

/// The state of the file says more than the error does.
fn explain(path: &Path, source: io::Error) -> Error {
    use rustix::fs::{Access, access};
    let path = path.to_owned();
    match (access(&path, Access::EXISTS), access(&path, Access::WRITE_OK)) {
        (Err(_), _) => Error::Missing { path },
        (_, Err(_)) => Error::Permission { path },
        _ => Error::Contact { source },
    }
}

/// Whether a server answers at `path` within `timeout`.
#[must_use]
pub fn answers(path: &Path, timeout: Duration) -> bool {
    Connection::open(path, Some(timeout)).and_then(|mut server| server.ask(&["ping".into()])).is_ok_and(|it| it.is_ok())
}
