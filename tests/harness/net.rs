//! Two network namespaces and a cable, without root.
//!
//! [`in_namespaces!`](crate::in_namespaces) starts the test once more, alone, in namespaces of
//! its own. There the test's process is the server; the attacker is at the other end of a veth
//! cable. Threads can step over ([`Host::within`]), and a socket stays where it was made, so real
//! packets are sent with nothing but `std::net`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The server's addresses.
pub const SERVER: &str = "192.0.2.1";
pub const SERVER6: &str = "2001:db8::1";
/// The attacker's; it has 192.0.2.3 to .9 and 2001:db8::3 to ::9 as well.
pub const ATTACKER: &str = "192.0.2.2";
pub const ATTACKER6: &str = "2001:db8::2";

const INSIDE: &str = "SEKIMORI_TEST_INSIDE";

/// Goes on only inside of namespaces of its own; outside it runs the calling test there and
/// returns from it when that has passed.
#[macro_export]
macro_rules! in_namespaces {
    () => {{
        fn here() {}
        match $crate::harness::net::Net::inside(std::any::type_name_of_val(&here)) {
            Some(net) => net,
            None => return,
        }
    }};
}

/// The namespaces of a test and the cable between them.
pub struct Net {
    attacker: Child,
}

/// One end of the cable.
#[derive(Clone, Copy)]
pub struct Host {
    /// A process in the namespace; nothing for the test's own.
    process: Option<u32>,
    addresses: [&'static str; 2],
}

impl Net {
    /// See [`in_namespaces!`](crate::in_namespaces).
    pub fn inside(function: &str) -> Option<Net> {
        let test = function.trim_end_matches("::here");
        let test = test.split_once("::").map_or(test, |(_, path)| path);
        if std::env::var(INSIDE).as_deref() == Ok(test) {
            return Some(Net::lay());
        }
        need("unshare", "util-linux");
        need("ip", "iproute2");
        need("nft", "nftables");
        // Root needs no user namespace, and keeps all users that way; others become root in one.
        let user = if rustix::process::geteuid().is_root() { "-nm" } else { "-Urnm" };
        let output = Command::new("unshare")
            .args([user, "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
            .env(INSIDE, test)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let ran = text.contains("1 passed");
        print!("{text}");
        assert!(
            output.status.success() && ran,
            "{test} in its namespaces: {} (are user namespaces allowed?)\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        None
    }

    fn lay() -> Net {
        run("ip", "link set lo up");
        let mut attacker = Command::new("unshare")
            .args(["-n", "--", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(attacker.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let net = Net { attacker };
        run("ip", &format!("link add cable type veth peer name cable netns {}", net.attacker.id()));
        for host in [net.server(), net.attacker()] {
            host.run(&format!("ip addr add {}/24 dev cable", host.addresses[0]));
            host.run(&format!("ip addr add {}/64 dev cable nodad", host.addresses[1]));
            host.run("ip link set cable up");
            host.run("ip link set lo up");
        }
        for more in 3..10 {
            net.attacker().run(&format!("ip addr add 192.0.2.{more}/24 dev cable"));
            net.attacker().run(&format!("ip addr add 2001:db8::{more}/64 dev cable nodad"));
        }
        net
    }

    /// The test's own end.
    pub fn server(&self) -> Host {
        Host { process: None, addresses: [SERVER, SERVER6] }
    }

    /// The other end.
    pub fn attacker(&self) -> Host {
        Host { process: Some(self.attacker.id()), addresses: [ATTACKER, ATTACKER6] }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.attacker.kill();
        let _ = self.attacker.wait();
    }
}

impl Host {
    /// A program to be run at this end.
    pub fn command(&self, program: &str) -> Command {
        match self.process {
            None => Command::new(program),
            Some(process) => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &process.to_string(), "-n", "--", program]);
                command
            }
        }
    }

    /// Runs words separated by spaces; anything but success fails the test.
    pub fn run(&self, words: &str) -> String {
        let mut words = words.split_whitespace();
        let mut command = self.command(words.next().unwrap());
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell's text, whatever comes of it: success, and all it said.
    pub fn shell(&self, text: &str) -> (bool, String) {
        let output = self.command("sh").args(["-c", text]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Does something at this end: what it opens stays here.
    pub fn within<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let process = self.process;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                if let Some(process) = process {
                    let space = File::open(format!("/proc/{process}/ns/net")).unwrap();
                    let kind = rustix::thread::LinkNameSpaceType::Network;
                    rustix::thread::move_into_link_name_space(space.as_fd(), Some(kind)).unwrap();
                }
                inside()
            });
            thread.join().unwrap()
        })
    }

    /// A UDP socket at this end.
    pub fn udp(&self, address: &str, port: u16) -> UdpSocket {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        self.within(|| UdpSocket::bind(address)).unwrap()
    }

    /// A listening TCP socket at this end; connections wait in its queue.
    pub fn listen(&self, address: &str, port: u16) -> TcpListener {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        self.within(|| TcpListener::bind(address)).unwrap()
    }

    /// Tries a TCP connection from one of this end's addresses to the other end. A packet that
    /// is dropped is not answered; `wait` is how long we take for that.
    pub fn connects(&self, from: &str, port: u16, wait: Duration) -> std::io::Result<TcpStream> {
        let from: IpAddr = from.parse().unwrap();
        let to = match (self.process.is_some(), from.is_ipv4()) {
            (true, true) => SERVER,
            (true, false) => SERVER6,
            (false, true) => ATTACKER,
            (false, false) => ATTACKER6,
        };
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.within(|| {
            use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
            let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket(family, SocketType::STREAM, None)?;
            bind(&socket, &SocketAddr::new(from, 0))?;
            let stream = TcpStream::from(socket);
            rustix::io::ioctl_fionbio(&stream, true)?;
            match connect(&stream, &to) {
                Ok(()) => {}
                Err(rustix::io::Errno::INPROGRESS) => {
                    use rustix::event::{PollFd, PollFlags, Timespec, poll};
                    let mut fds = [PollFd::new(&stream, PollFlags::OUT)];
                    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
                    if poll(&mut fds, Some(&wait))? == 0 {
                        return Err(std::io::ErrorKind::TimedOut.into());
                    }
                    if let Some(error) = stream.take_error()? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            rustix::io::ioctl_fionbio(&stream, false)?;
            Ok(stream)
        })
    }

    /// Whether a TCP port of the other end, where somebody must listen, can be reached from this
    /// end's IPv4 address.
    pub fn reaches(&self, port: u16) -> bool {
        self.connects(self.addresses[0], port, Duration::from_millis(300)).is_ok()
    }
}

/// Whether datagrams pass from one socket to another: one is sent and looked for.
///
/// On a veth cable a packet has arrived, or was dropped, when `send_to` returns, so there is
/// nothing to wait for but the neighbour's hardware address at the very first.
pub fn passes(from: &UdpSocket, to: &UdpSocket) -> bool {
    let mut buffer = [0; 8];
    to.set_nonblocking(true).unwrap();
    while to.recv(&mut buffer).is_ok() {}
    let _ = from.send_to(b"knock", to.local_addr().unwrap());
    let end = Instant::now() + Duration::from_millis(20);
    while Instant::now() < end {
        if to.recv(&mut buffer).is_ok() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Waits for a condition; after `limit` the test fails.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a closure in a loop in a thread until the value is dropped.
pub struct Background(std::sync::Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Background {
    /// Starts.
    pub fn start(mut step: impl FnMut() + Send + 'static) -> Background {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                step();
            }
        });
        Background(stop, Some(thread))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

/// Fails the test if a program is missing, and says what to install.
pub fn need(program: &str, package: &str) {
    let found = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| std::path::Path::new(folder).join(program).exists());
    assert!(found, "this test needs `{program}`: apt-get install {package}");
}

fn run(program: &str, words: &str) {
    Host { process: None, addresses: [SERVER, SERVER6] }.run(&format!("{program} {words}"));
}
