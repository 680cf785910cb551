//! `sekimori demo`: an attacker, a server and a real ban, away from this machine's own network.
//!
//! The program starts itself again in network namespaces that nobody else sees: one for the server,
//! where our real daemon runs with the built-in jail for sshd, and one for the attacker, with a cable
//! between them. Packets, log and ban are real; only sshd has a stand-in, which writes the same line.
//! No root is needed, and when the last process ends, the kernel drops everything.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use clap::Parser;

mod attacker;
mod room;
mod sshd;

use room::Room;

/// Anything that did not go as it should.
const FAILED: u8 = 1;

/// The server's address and port, on a cable of its own.
const SERVER: &str = "192.0.2.1";
const ATTACKER: &str = "192.0.2.2";
const PORT: u16 = 22;
/// Failures that make a ban (the built-in jail's `maxretry`), and how long it lasts, in seconds.
const MAXRETRY: usize = 5;
const BANTIME: u64 = 3;
/// So long any step may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Parser, Debug)]
#[command(
    name = "sekimori demo",
    about = "Shows a ban from the first failed login to the unban, in private network namespaces",
    after_help = "Needs no root, and changes nothing on this machine. Exit status: 0 if all went as it should, else 1."
)]
struct Arguments {
    /// Which part of the show this process plays
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// Words for that part
    #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

/// What shells and the manual are told.
pub(super) fn description() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    /// In the server's namespace: directs everything.
    Inside,
    /// Becomes another program, and ends when its parent does.
    Tied,
    /// In its own namespace: tries to log in each time it is told to.
    Attacker,
}

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let arguments = match super::parsed::<Arguments>(words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let outcome = match arguments.part {
        None => go_inside(),
        Some(Part::Inside) => direct(),
        Some(Part::Tied) => tied(&arguments.words),
        Some(Part::Attacker) => attacker::serve(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILED)
        }
    }
}

/// This program.
fn ourselves() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))
}

/// A program of the system; those of administrators are not in everybody's search path.
fn program(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin"));
    command
}

/// Starts this program again in namespaces of its own, in this very process.
fn go_inside() -> Result<(), String> {
    let us = ourselves()?;
    // root needs no user namespace; others become root in one, and only there
    let ways: &[&str] = if rustix::process::geteuid().is_root() { &["-n", "-Urn"] } else { &["-Urn"] };
    let mut refusal = String::new();
    for way in ways {
        let tried = program("unshare").args([way, "--", "true"]).stdin(Stdio::null()).output();
        let tried = tried.map_err(|error| format!("cannot run `unshare`: {error}; install util-linux"))?;
        if tried.status.success() {
            let failed = program("unshare").arg(way).arg("--").arg(us).args(["demo", "--part", "inside"]).exec();
            return Err(format!("cannot run `unshare`: {failed}"));
        }
        refusal = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    }
    Err(format!(
        "this user cannot make private network namespaces ({}){}\n\
         Run it as root instead, or in a virtual machine: it changes nothing outside of its namespaces there either.",
        crate::server::logging::shown(&refusal),
        forbidden()
    ))
}

/// Which setting of the kernel forbids user namespaces, if it is one we know.
fn forbidden() -> &'static str {
    let is = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        "\nuser.max_user_namespaces is 0 here; an administrator can allow some: sysctl user.max_user_namespaces=1000"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "\nkernel.unprivileged_userns_clone is 0 here; an administrator can allow it: \
         sysctl kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "\nAppArmor restricts them here; an administrator can allow it: \
         sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        "\nContainers usually forbid it, unless they were started with more rights."
    }
}

/// Becomes another program, which is told to end when its parent ends, however that happens.
fn tied(words: &[OsString]) -> Result<(), String> {
    let (name, rest) = words.split_first().ok_or("no program named")?;
    let term = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(term).map_err(|error| error.to_string())?;
    Err(format!("cannot run it: {}", Command::new(name).args(rest).exec()))
}

/// The whole show.
fn direct() -> Result<(), String> {
    let room = Room::open()?;
    let shown = Show::start(&room).and_then(|mut show| show.run());
    room.clean();
    shown
}

struct Show<'a> {
    room: &'a Room,
    start: Instant,
    colour: bool,
    attacker: (ChildStdin, BufReader<ChildStdout>),
    failures: Receiver<Instant>,
}

impl Show<'_> {
    fn start(room: &Room) -> Result<Show<'_>, String> {
        let start = Instant::now();
        let mut stdout = std::io::stdout();
        let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        // nobody may look, then the exit status tells
        let _ = writeln!(
            stdout,
            "An attacker, a server and a ban, in private network namespaces. Nothing on this machine is changed.\n"
        );
        let mut child = program("unshare")
            .args(["-n", "--"])
            .arg(ourselves()?)
            .args(["demo", "--part", "attacker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for us alone; the attacker ends with its input
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the attacker: {error}"))?;
        let ends = child.stdin.take().zip(child.stdout.take());
        let number = child.id();
        room.keep(child);
        let (stdin, stdout) = ends.ok_or("the attacker cannot be told anything")?;
        let mut attacker = (stdin, BufReader::new(stdout));
        // it says so when it is in its namespace
        hear(&mut attacker)?;
        ip(&format!(
            "link set lo up\nlink add cable type veth peer name cable netns {number}\n\
             addr add {SERVER}/24 dev cable\nlink set cable up\n"
        ))?;
        say(&mut attacker, "plug")?;
        let failures = sshd::serve(&room.file("auth.log"))?;
        Ok(Show { room, start, colour, attacker, failures })
    }

    fn run(&mut self) -> Result<(), String> {
        self.tell(&format!("the server is {SERVER}, the attacker {ATTACKER}, and a cable connects them"));
        let server = self.start_server()?;
        self.tell(&format!(
            "`sekimori server` runs (process {server}) with the built-in jail `sshd`: {MAXRETRY} failures, then {BANTIME} s of ban"
        ));
        for number in 1..=MAXRETRY {
            self.expect(true, &format!("the attacker connects to port {PORT} and fails to log in"), || {
                format!("failure {number} of {MAXRETRY} is in the log")
            })?;
        }
        let last = self.failures.try_iter().last();
        self.wait_for(&format!("[sshd] Ban {ATTACKER}"))?;
        let after = last.map(|last| format!(", {:.1} ms after the last failure", last.elapsed().as_secs_f64() * 1e3));
        self.tell(&format!("{ATTACKER} is banned{}", after.unwrap_or_default()));
        self.expect(false, &format!("the attacker connects to port {PORT}"), || "no answer".to_owned())?;
        self.wait_for(&format!("[sshd] Unban {ATTACKER}"))?;
        self.tell(&format!("{ATTACKER} is unbanned: {BANTIME} s are over"));
        self.expect(true, &format!("the attacker connects to port {PORT}"), || "answered again".to_owned())?;
        self.tell("done; the namespaces and all files of this show go now");
        Ok(())
    }

    /// One line of the story, with the time since the start.
    fn tell(&self, text: &str) {
        // nobody may look, then the exit status tells
        let _ = writeln!(std::io::stdout(), "{:6.3} s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// Has the attacker try; tells of it if it went as it should.
    fn expect(&mut self, reaches: bool, what: &str, outcome: impl Fn() -> String) -> Result<(), String> {
        say(&mut self.attacker, "try")?;
        let answered = hear(&mut self.attacker)? == "answered";
        if answered != reaches {
            let instead = if answered { "was answered, although it is banned" } else { "got no answer" };
            return Err(format!("{what}, and {instead}\n{}", self.room.words_of_the_server()));
        }
        let (colour, end) = match (self.colour, reaches) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[32m", "\x1b[0m"),
            (true, false) => ("\x1b[31m", "\x1b[0m"),
        };
        self.tell(&format!("{what}: {colour}{}{end}", outcome()));
        Ok(())
    }

    /// Starts the daemon and waits until it is ready; its process number.
    fn start_server(&self) -> Result<u32, String> {
        let room = self.room;
        let file = |name: &str| room.file(name).display().to_string();
        // everything that has a place outside of our folder gets one inside
        room.write(
            "fail2ban.conf",
            &format!(
                "[Definition]\nloglevel = INFO\nlogtarget = {}\nsyslogsocket = auto\nsocket = {}\npidfile = {}\n\
                 dbfile = None\ndbpurgeage = 1d\n",
                file("log"),
                file("socket"),
                file("pid")
            ),
        )?;
        room.write("jail.local", &format!("[sshd]\nlogpath = {}\nbantime = {BANTIME}\n", file("auth.log")))?;
        room.write("sekimori.toml", "compat = \"1.0\"\n")?;
        let errors = std::fs::File::create(room.file("errors")).map_err(|error| error.to_string())?;
        let us = ourselves()?;
        let child = Command::new(&us)
            .args(["demo", "--part", "tied", "--"])
            .arg(&us)
            .args(["server", "-c", &file(""), "--logtarget", &file("log")])
            // who sits at this terminal is not the attacker
            .env_remove("SSH_CONNECTION")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the server: {error}"))?;
        let number = child.id();
        room.keep(child);
        self.wait_for("Server ready")?;
        Ok(number)
    }

    /// Waits for words in the server's log.
    fn wait_for(&self, words: &str) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        let log = self.room.file("log");
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains(words)) {
            if Instant::now() > end || self.room.somebody_left() {
                let said = self.room.words_of_the_server();
                return Err(format!("the server did not say `{words}`; its own last words are:\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Tells the attacker something.
fn say(attacker: &mut (ChildStdin, BufReader<ChildStdout>), word: &str) -> Result<(), String> {
    writeln!(attacker.0, "{word}").map_err(|error| format!("the attacker is gone: {error}"))
}

/// What the attacker says.
fn hear(attacker: &mut (ChildStdin, BufReader<ChildStdout>)) -> Result<String, String> {
    let mut line = String::new();
    match attacker.1.read_line(&mut line) {
        Ok(1..) => Ok(line.trim().to_owned()),
        _ => Err("the attacker is gone".to_owned()),
    }
}

/// Has `ip` set up this namespace.
fn ip(lines: &str) -> Result<(), String> {
    let problem = |text: &str| format!("cannot set up the network of the namespace: {text}{}", forbidden());
    let mut child: Child = program("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run `ip`: {error}; install iproute2"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).map_err(|error| problem(&error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| problem(&error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(problem(String::from_utf8_lossy(&output.stderr).trim())) }
}
