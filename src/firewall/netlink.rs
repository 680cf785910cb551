//! Netlink messages, the netfilter socket, and what the kernel's acknowledgements say.
//!
//! A thin encoder of our own rather than `netlink-packet-netfilter`: that crate knows no ipset
//! and not the expressions we use (reject, limit, counter), builds a tree per message and leaves
//! batches to us anyway. The socket is `netlink-sys`: the options for extended acknowledgements
//! have no other safe face.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_NETFILTER};

/// Message flags.
pub const REQUEST: u16 = 1;
pub const ACK: u16 = 4;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
/// Attribute flags.
pub const NESTED: u16 = 0x8000;

const HEADER: usize = 16;
const GENERAL: usize = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const DONT_WAIT: i32 = 0x40;

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EAGAIN: i32 = 11;
pub const ENOMEM: i32 = 12;
pub const EINVAL: i32 = 22;
pub const ENFILE: i32 = 23;
pub const ENOBUFS: i32 = 105;

/// Messages for one `send`.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    start: usize,
    /// Sequence number of the message begun last.
    pub sequence: u32,
}

impl Messages {
    /// None so far; the first will have the number behind `sequence`.
    pub fn after(sequence: u32) -> Messages {
        Messages { sequence, ..Messages::default() }
    }

    /// Forgets the messages; sequence numbers go on.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// All bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a message. `kind` is subsystem and command; `resource` goes into the general header.
    pub fn begin(&mut self, kind: u16, flags: u16, family: u8, resource: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.sequence
    }

    /// Ends the message begun last.
    pub fn end(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes of the present message, as an extended acknowledgement counts them.
    pub fn offset(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Asks for an acknowledgement of the message begun last.
    pub fn acknowledge_last(&mut self) {
        self.bytes[self.start + 6] |= ACK as u8;
    }

    /// An attribute. Its length, below 64 KiB, is the caller's care.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A text, with the zero at its end.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.bytes.extend(((text.len() + 5) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A number in network order.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A long number in network order.
    pub fn long(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Messages)) {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        inside(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The attributes in a piece of a message: kind without flags, and value. Ends at the first
/// that is cut off.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (word(bytes, 0)?, word(bytes, 2)?);
        let value = bytes.get(4..usize::from(length))?;
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// The value of the first attribute of a kind.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A text attribute without the zero at its end.
pub fn find_text(bytes: &[u8], kind: u16) -> Option<&str> {
    let text = find(bytes, kind)?;
    std::str::from_utf8(text.split(|b| *b == 0).next()?).ok()
}

/// A number in network order.
pub fn find_number(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.get(..4)?.try_into().ok()?))
}

/// A long number in network order.
pub fn find_long(bytes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(bytes, kind)?.get(..8)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long_word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Subsystem and command.
    pub kind: u16,
    /// Of the request it answers.
    pub sequence: u32,
    /// Port of the socket that caused it, 0 for the kernel.
    pub port: u32,
    /// What follows the netlink header.
    pub body: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// The attributes behind the general header.
    pub fn attributes(&self) -> &'a [u8] {
        self.body.get(GENERAL..).unwrap_or_default()
    }
}

/// The messages in one datagram.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Incoming<'_>> {
    std::iter::from_fn(move || {
        let length = long_word(bytes, 0)? as usize;
        let message = Incoming {
            kind: word(bytes, 4)?,
            sequence: long_word(bytes, 8)?,
            port: long_word(bytes, 12)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// An acknowledgement that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Sequence number of the message refused.
    pub sequence: u32,
    /// The error number.
    pub error: i32,
    /// Where in that message the guilty attribute stands, if the kernel says so.
    pub offset: Option<usize>,
    /// The message as the kernel returned it, if it did (ipset writes a line number into it).
    pub request: Vec<u8>,
}

/// Reads an error message; nothing for other kinds and for a good acknowledgement.
fn refusal(message: &Incoming<'_>) -> Option<Refusal> {
    let error = match message.kind {
        ERROR | DONE => -(long_word(message.body, 0)? as i32),
        _ => return None,
    };
    if error <= 0 {
        return None;
    }
    let request_length = long_word(message.body, 4).unwrap_or(0) as usize;
    // A capped acknowledgement holds the header of the request alone; one that is not, all of it.
    let whole = message.body.get(4..4 + request_length.max(HEADER)).unwrap_or_default();
    let behind = [4 + HEADER, 4 + request_length.next_multiple_of(4)]
        .into_iter()
        .find_map(|at| find(message.body.get(at..)?, 2)?.get(..4)?.try_into().ok().map(u32::from_ne_bytes));
    Some(Refusal {
        sequence: message.sequence,
        error,
        offset: behind.map(|offset| offset as usize),
        request: whole.to_vec(),
    })
}

/// A socket to the kernel's netfilter.
#[derive(Debug)]
pub struct Socket {
    raw: Raw,
    /// The kernel's name for this socket.
    pub port: u32,
    /// Bytes one `send` may have.
    pub room: usize,
    buffer: Vec<u8>,
}

/// Largest datagram the kernel makes for dumps and events is 32 KiB; error replies of ipset
/// hold the whole request.
const RECEIVE: usize = 1 << 17;

impl Socket {
    /// Opens one; `capped` leaves the request out of refusals.
    pub fn open(capped: bool) -> io::Result<Socket> {
        let mut raw = Raw::new(NETLINK_NETFILTER)?;
        let port = raw.bind_auto()?.port_number();
        raw.set_ext_ack(true)?;
        raw.set_cap_ack(capped)?;
        // The forced sizes need CAP_NET_ADMIN of the machine, which a container lacks.
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&raw, 4 << 20).is_err() {
            rustix::net::sockopt::set_socket_send_buffer_size(&raw, 4 << 20)?;
        }
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&raw, 4 << 20);
        let sending = rustix::net::sockopt::socket_send_buffer_size(&raw)?;
        raw.connect(&SocketAddr::new(0, 0))?;
        Ok(Socket { raw, port, room: (sending / 4).clamp(8 << 10, 1 << 20), buffer: Vec::with_capacity(RECEIVE) })
    }

    /// Opens one that hears of changes in nftables; `receive` bytes of them wait at most.
    pub fn listen(receive: usize) -> io::Result<Socket> {
        const GROUP_NFTABLES: u32 = 7;
        let mut raw = Raw::new(NETLINK_NETFILTER)?;
        let port = raw.bind_auto()?.port_number();
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&raw, receive).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&raw, receive)?;
        }
        raw.add_membership(GROUP_NFTABLES)?;
        raw.set_non_blocking(true)?;
        Ok(Socket { raw, port, room: 0, buffer: Vec::with_capacity(RECEIVE) })
    }

    /// Sends, and reads the acknowledgements, which are there when `send` returns.
    ///
    /// Refusals come back as a value; the error is one of the socket.
    pub fn exchange(&mut self, messages: &Messages) -> io::Result<Vec<Refusal>> {
        self.send(messages)?;
        let mut refusals = Vec::new();
        self.receive(|message| refusals.extend(refusal(&message)))?;
        Ok(refusals)
    }

    /// Sends; a full buffer is waited for, up to a tenth of a second in all.
    pub fn send(&mut self, messages: &Messages) -> io::Result<()> {
        let mut pause = std::time::Duration::from_micros(100);
        loop {
            match self.raw.send(messages.bytes(), 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if [EAGAIN, ENOBUFS].contains(&number(&error)) && pause.as_millis() < 50 => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads all that is there; ENOBUFS means that some was lost, but the rest is read first.
    pub fn receive(&mut self, mut each: impl FnMut(Incoming<'_>)) -> io::Result<()> {
        let mut lost = None;
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, DONT_WAIT) {
                Ok(_) => messages(&self.buffer).for_each(&mut each),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return lost.map_or(Ok(()), Err),
                Err(error) if number(&error) == ENOBUFS => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends one request and reads its answers until they end or `each` has had enough.
    ///
    /// The kernel makes a dump's next part while one is read; give a dump up only on a socket
    /// that is not used again.
    pub fn ask(
        &mut self,
        request: &Messages,
        mut each: impl FnMut(Incoming<'_>) -> bool,
    ) -> io::Result<Result<(), Refusal>> {
        self.send(request)?;
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, DONT_WAIT) {
                Ok(_) => {
                    for message in messages(&self.buffer) {
                        if let Some(refused) = refusal(&message) {
                            return Ok(Err(refused));
                        }
                        if message.kind <= DONE || !each(message) {
                            return Ok(Ok(()));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Ok(())),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// The error number of the system, 0 without.
pub fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}
