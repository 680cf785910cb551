//! Starts everything, waits for the end, and ends everything in order.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::control::{Command, Value};
use crate::fail2ban::Configuration;
pub use crate::firewall::Kind;
use crate::firewall::{self, Firewall};

use super::engine::{Engine, Event};
use super::logging::{Level, Logger, shown};
use super::socket::{self, Socket, Trouble};
use super::{engine, handover, notify};

/// Requests of clients that wait for the engine.
const REQUESTS: usize = 64;

/// How to run; what the configuration's stream does not say.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the engine.
    pub engine: engine::Options,
    /// Which kernel interface bans go to.
    pub firewall: Kind,
    /// The control socket; none, and nobody can ask.
    pub socket: Option<PathBuf>,
    /// The group that may use the control socket besides root.
    pub group: Option<String>,
    /// Where the process number is written; none, and it is not.
    pub pidfile: Option<PathBuf>,
    /// Whether the terminal is left: SIGHUP is then the only thing that a terminal's end sends.
    pub background: bool,
    /// Where the logger writes, as the configuration would say it.
    pub logtarget: String,
}

/// Why the daemon cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No way to the kernel.
    #[error("no firewall")]
    Firewall(#[from] firewall::Error),
    /// No control socket.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// Something of the system is not to be had.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// The refusal.
        source: std::io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::System { what, source }
}

/// Applies a configuration and works until a signal or a client ends it.
///
/// # Errors
/// If the socket is in use or the kernel cannot be told. A jail that cannot start is logged and
/// left out.
pub fn run(configuration: &Configuration, options: Options, logger: Logger) -> Result<(), Error> {
    let socket = options.socket.as_deref().map(|path| Socket::bind(path, options.group.as_deref())).transpose()?;
    let firewall = firewall::open(options.firewall)?;
    let _pidfile = options.pidfile.clone().map(PidFile::write).transpose()?;
    raise_file_limit();
    let logger = Arc::new(logger);
    let reported = logger.clone();
    let report = move |trouble: &Trouble| match trouble {
        Trouble::Unreadable(why) => {
            reported.log(Level::ERROR, "asyncserver", &format!("PROTO-error: load message failed: {}", shown(why)));
        }
        Trouble::Stranger(user) => {
            let text = format!(
                "User {user} may not use the control socket, although its file is open to everybody; for a group \
                 there is `control.group` in sekimori.toml. This is said once"
            );
            reported.log(Level::WARNING, "asyncserver", &text);
        }
    };
    let socket = socket.map(|socket| socket.with_version(options.engine.compat.version()).with_report(report));
    logger.log(Level::INFO, "server", &"-".repeat(50));
    logger.log(Level::INFO, "server", &format!("Starting {} v{}", super::NAME, options.engine.compat.version()));
    let about = format!("This is Sekimori {}; bans by {}", env!("CARGO_PKG_VERSION"), firewall.describe());
    logger.log(Level::INFO, "server", &about);
    if options.background {
        logger.log(Level::INFO, "server", "Daemon started");
    }

    let (events, receiver) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the part that waits"))?;
    watch(&*firewall, events.clone())?;
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel();
    let sender = events.clone();
    let waiting = std::thread::Builder::new()
        .name("sk/wait".to_owned())
        .spawn(move || runtime.block_on(wait(socket, sender, ended)))
        .map_err(system("start a thread"))?;

    let mut engine = Engine::new(options.engine, firewall, logger, handle, events);
    if let Some(socket) = options.socket.as_deref() {
        match handover::take(socket, super::clock().now) {
            Ok(handed) => engine.handed = handed,
            Err(text) => engine.effects.line(Level::ERROR, "database", format!("bans handed over are lost: {text}")),
        }
    }
    engine.begin(configuration, &options.logtarget);
    notify::notify("READY=1");
    engine.run(&receiver);
    notify::notify("STOPPING=1");
    drop(engine);
    // the other side is gone only if its thread is
    let _ = end.send(());
    let _ = waiting.join();
    Ok(())
}

impl Engine {
    /// Applies the configuration.
    fn begin(&mut self, configuration: &Configuration, logtarget: &str) {
        logtarget.clone_into(&mut self.general.logtarget);
        self.heed(configuration);
        let stream: Vec<Vec<Value>> = configuration.stream.iter().map(|Command { words, .. }| words.clone()).collect();
        // what failed has been logged, and everything else runs
        let _ = self.stream(&stream);
        if let Some(starter) = self.guard.starter() {
            let prefix = crate::address::Id::Prefix(crate::address::Prefix::host(starter));
            let ignored =
                |jail: &super::jail::Jail| matches!(jail.policy.rules.check(&prefix), crate::jail::Verdict::Ignored(_));
            if !self.jails.is_empty() && !self.jails.values().all(ignored) {
                let text = format!(
                    "This server was started by SSH from {starter}. Failed logins from there are counted like all others; \
                     to never ban it, add it to `ignoreip`"
                );
                self.effects.line(Level::WARNING, "server", text);
            }
        }
        self.effects.line(Level::INFO, "server", "Server ready".to_owned());
        self.settle();
    }
}

/// Clients and signals, until the engine has ended.
async fn wait(socket: Option<Socket>, events: Sender<Event>, mut ended: oneshot::Receiver<()>) {
    let (sender, mut requests) = mpsc::channel(REQUESTS);
    let serving = socket.map(|socket| tokio::spawn(socket.serve(sender)));
    let on = |kind: SignalKind, event: fn() -> Event| {
        let events = events.clone();
        let Ok(mut signals) = signal(kind) else { return };
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // the engine is gone when this ends as well
                let _ = events.send(event());
            }
        });
    };
    on(SignalKind::terminate(), || Event::Stop);
    on(SignalKind::interrupt(), || Event::Stop);
    on(SignalKind::hangup(), || Event::Reload);
    on(SignalKind::user_defined1(), || Event::Flush);
    loop {
        tokio::select! {
            Some(request) = requests.recv() => drop(events.send(Event::Request(request))),
            _ = &mut ended => break,
        }
    }
    drop(requests);
    if let Some(serving) = serving {
        let _ = serving.await;
    }
}

/// Tells the engine when somebody may have changed the kernel's rules.
fn watch(firewall: &dyn Firewall, events: Sender<Event>) -> Result<(), Error> {
    let Some(watched) = firewall.watch() else { return Ok(()) };
    let watched = watched.try_clone_to_owned().map_err(system("watch the firewall"))?;
    let look = move || {
        loop {
            let ready = rustix::event::poll(&mut [PollFd::new(&watched, PollFlags::IN)], None);
            match ready {
                Ok(_) if events.send(Event::Firewall).is_err() => return,
                // the engine reads it empty; until then there is nothing new to say
                Ok(_) => std::thread::sleep(Duration::from_millis(50)),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    };
    std::thread::Builder::new().name("sk/watch".to_owned()).spawn(look).map_err(system("start a thread"))?;
    Ok(())
}

/// As many open files as are allowed: each log takes one.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // with the old limit there may be fewer logs, which each one's error tells
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<PidFile, Error> {
        let write = |path: &Path| {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            // somebody's link must not lead the number into another file
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            writeln!(file, "{}", std::process::id())
        };
        write(&path).map_err(system(format!("write the process number to `{}`", path.display())))?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
