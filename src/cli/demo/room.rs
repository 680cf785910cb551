//! What has to be cleaned up: a folder and some processes, whatever ends the show.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// So long a process may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(3);
/// What a shell reports for a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The folder of the show and its processes.
pub struct Room(Arc<Contents>);

struct Contents {
    folder: PathBuf,
    children: Mutex<Vec<Child>>,
}

impl Room {
    /// Makes the folder, and begins to watch for signals.
    pub fn open() -> Result<Room, String> {
        let plain = |path: &Path| path.to_str().is_some_and(|text| text.chars().all(is_plain));
        let base = Some(std::env::temp_dir()).filter(|path| plain(path)).unwrap_or_else(|| PathBuf::from("/tmp"));
        let folder = base.join(format!("sekimori-demo-{}", std::process::id()));
        // fails if there is such a thing already, whoever made it
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("cannot make the folder `{}`: {error}", folder.display()))?;
        let room = Room(Arc::new(Contents { folder, children: Mutex::default() }));
        if let Err(error) = room.watch() {
            room.clean();
            return Err(format!("cannot watch for signals: {error}"));
        }
        Ok(room)
    }

    /// Cleans up and ends this process when somebody wants it to end.
    fn watch(&self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
        };
        let contents = self.0.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let [interrupt, terminate, hangup] = &mut signals;
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            // held until the end, so that nobody else has a say any more
            let mut children = contents.children();
            contents.clean(&mut children);
            std::process::exit(INTERRUPTED);
        })?;
        Ok(())
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.folder.join(name)
    }

    /// Writes a file of the folder.
    pub fn write(&self, name: &str, content: &str) -> Result<(), String> {
        let path = self.file(name);
        std::fs::write(&path, content).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }

    /// A process that is to end with the show.
    pub fn keep(&self, child: Child) {
        self.0.children().push(child);
    }

    /// Whether a process has ended already.
    pub fn somebody_left(&self) -> bool {
        self.0.children().iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// The end of what the server wrote.
    pub fn words_of_the_server(&self) -> String {
        let read = |name| std::fs::read_to_string(self.file(name)).unwrap_or_default();
        let text = [read("errors"), read("log")].concat();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Ends all processes and removes the folder.
    pub fn clean(&self) {
        self.0.clean(&mut self.0.children());
    }
}

impl Contents {
    fn children(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clean(&self, children: &mut Vec<Child>) {
        for child in children.iter_mut() {
            // the number of one that has ended may be another one's by now
            if matches!(child.try_wait(), Ok(None)) {
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
            }
        }
        let end = Instant::now() + GRACE;
        for mut child in children.drain(..) {
            while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let removed = std::fs::remove_dir_all(&self.folder);
        if let Err(error) = removed.as_ref()
            && self.folder.exists()
        {
            eprintln!("warning: cannot remove `{}`: {error}", self.folder.display());
        }
    }
}

/// Whether a path with this character means itself in a configuration file.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-')
}
