//! Files named in `ignoreip`, read again when they change.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::jail::ignore::Listed;

use super::super::logging::shown;
use super::lock;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// So long what was read is not looked at again.
const CHECK: Duration = Duration::from_secs(1);
/// So long a file that could not be read is left alone.
const RETRY: Duration = Duration::from_secs(60);
/// So long a file system is waited for.
const DEADLINE: Duration = Duration::from_secs(5);

/// All files in use.
#[derive(Default)]
pub struct Files(Mutex<HashMap<Arc<str>, Arc<File>>>);

struct File {
    state: tokio::sync::Mutex<State>,
    /// Free unless a thread still hangs in this file.
    turn: Arc<Semaphore>,
}

struct State {
    listed: Arc<Listed>,
    stamp: Option<Stamp>,
    next: Instant,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

/// What is new: the entries, and whether everybody can write the file.
type News = Option<(Stamp, Listed, bool)>;

impl Files {
    /// The entries of a file, and a message if something is wrong with it. What was read before stays
    /// true as long as the file cannot be read.
    pub async fn listed(&self, path: &Arc<str>) -> (Arc<Listed>, Option<String>) {
        let file = {
            let mut files = lock(&self.0);
            files.entry(path.clone()).or_insert_with(|| Arc::new(File::new())).clone()
        };
        let mut state = file.state.lock().await;
        if state.next > Instant::now() {
            return (state.listed.clone(), None);
        }
        let path = shown(path);
        let news = tokio::time::timeout(DEADLINE, file.read(&path, state.stamp)).await;
        let news = news.unwrap_or_else(|_| Err(format!("its file system does not answer within {DEADLINE:?}")));
        let (wait, problem) = match news {
            Ok(None) => (CHECK, None),
            Ok(Some((stamp, listed, open))) => {
                state.stamp = Some(stamp);
                state.listed = Arc::new(listed);
                let text = || format!("ignoreip: `{path}` is writable by everybody: whoever writes it is not banned");
                (CHECK, open.then(text))
            }
            Err(error) => {
                let text = format!("ignoreip: cannot read `{path}`: {error}; using what it said before, if anything");
                (RETRY, Some(text))
            }
        };
        state.next = Instant::now() + wait;
        (state.listed.clone(), problem)
    }
}

impl File {
    fn new() -> File {
        let state = State { listed: Arc::default(), stamp: None, next: Instant::now() };
        File { state: tokio::sync::Mutex::new(state), turn: Arc::new(Semaphore::new(1)) }
    }

    async fn read(&self, path: &str, known: Option<Stamp>) -> Result<News, String> {
        let Ok(turn) = self.turn.clone().try_acquire_owned() else {
            return Err("its file system still does not answer".to_owned());
        };
        let (tell, told) = oneshot::channel();
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("ignoreip".to_owned())
            .spawn(move || {
                let news = read(&path, known);
                drop(turn);
                // nobody may wait any more
                let _ = tell.send(news);
            })
            .map_err(|error| error.to_string())?;
        told.await.unwrap_or_else(|_| Err("it was not read".to_owned()))
    }
}

/// Reads a file if it is not the known one.
fn read(path: &str, known: Option<Stamp>) -> Result<News, String> {
    let text = |error: std::io::Error| error.to_string();
    // a pipe would be waited for
    if !std::fs::metadata(path).map_err(text)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(text)?;
    let about = file.metadata().map_err(text)?;
    let stamp =
        Stamp { inode: (about.dev(), about.ino()), size: about.len(), modified: (about.mtime(), about.mtime_nsec()) };
    if known == Some(stamp) {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(text)?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    Ok(Some((stamp, Listed::parse(&String::from_utf8_lossy(&content)), about.mode() & 0o002 != 0)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::address::Id;

    /// As if enough time had passed to look at the file again.
    async fn later(files: &Files, path: &Arc<str>) -> (Arc<Listed>, Option<String>) {
        let file = lock(&files.0).get(path).cloned();
        if let Some(file) = file {
            file.state.lock().await.next = Instant::now();
        }
        files.listed(path).await
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changed_and_kept_when_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("friends");
        let path: Arc<str> = place.to_str().unwrap().into();
        let files = Files::default();
        let (listed, problem) = files.listed(&path).await;
        assert!(!listed.contains(&Id::parse("192.0.2.1")));
        assert!(problem.unwrap().contains("No such file"));
        std::fs::write(&place, "192.0.2.0/24 # home\n").unwrap();
        assert!(files.listed(&path).await.1.is_none(), "it is left alone for a while");
        assert!(later(&files, &path).await.0.contains(&Id::parse("192.0.2.1")));
        std::fs::write(&place, "bob, 198.51.100.1\n").unwrap();
        let (listed, problem) = later(&files, &path).await;
        assert!(!listed.contains(&Id::parse("192.0.2.1")) && listed.contains(&Id::parse("bob")) && problem.is_none());
        std::fs::remove_file(&place).unwrap();
        let (listed, problem) = later(&files, &path).await;
        assert!(listed.contains(&Id::parse("bob")) && problem.is_some());
        std::fs::create_dir(&place).unwrap();
        assert!(later(&files, &path).await.1.unwrap().contains("not a regular file"));
    }
}
