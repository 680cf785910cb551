#![expect(clippy::unwrap_used, reason = "a test may")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::*;
use crate::control::Reply;
use crate::fail2ban::protocol::Replies;

/// A served socket whose engine answers every command with its words, `stop` by ending, and
/// `hang` by waiting for the test.
struct Served {
    dir: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
    release: std::sync::mpsc::Sender<()>,
}

impl Served {
    fn start() -> Served {
        let dir = tempfile::tempdir().unwrap();
        let socket = Socket::bind(&dir.path().join("sock"), None).unwrap().with_version("7.0");
        let (sender, mut receiver) = mpsc::channel::<Request>(4);
        let (release, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            while let Some(Request { command, reply }) = receiver.blocking_recv() {
                match command[0].as_text() {
                    Some("stop") => {
                        reply.send(Ok(Value::None)).unwrap();
                        return;
                    }
                    Some("drop") => drop(reply),
                    word => {
                        if word == Some("hang") {
                            let _ = wait.recv();
                        }
                        let _ = reply.send(Ok(Value::List(command)));
                    }
                }
            }
        });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(socket.serve(sender));
        });
        Served { dir, thread: Some(thread), release }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn client(&self) -> Client {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream, replies: Replies::to(Encoding::Pickle) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.release.send(());
        if let Some(thread) = self.thread.take()
            && let Ok(mut stream) = UnixStream::connect(self.path())
        {
            let _ = stream.write_all(&protocol::request(&["stop".into()]));
            thread.join().unwrap();
        }
    }
}

struct Client {
    stream: UnixStream,
    replies: Replies,
}

impl Client {
    fn send(&mut self, words: &[Value]) {
        self.stream.write_all(&protocol::request(words)).unwrap();
    }

    /// Nothing if the connection ended.
    fn reply(&mut self) -> Option<Reply> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(reply) = self.replies.next_reply() {
                return Some(reply.unwrap());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.replies.feed(&buffer[..length]).unwrap(),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn ask(&mut self, words: &[&str]) -> Reply {
        self.send(&words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>());
        self.reply().unwrap()
    }
}

fn words(words: &[&str]) -> Value {
    Value::List(words.iter().map(|word| Value::from(*word)).collect())
}

#[test]
fn only_the_owner_may_connect_and_the_file_goes_at_the_end() {
    let mut served = Served::start();
    assert_eq!(std::fs::metadata(served.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(served.client().ask(&["a", "b"]), Ok(words(&["a", "b"])));
    let mut silent = served.client();
    // the answer arrives although it is the last thing that happens
    assert_eq!(served.client().ask(&["stop"]), Ok(Value::None));
    served.thread.take().unwrap().join().unwrap();
    assert!(!served.path().exists());
    assert_eq!(silent.reply(), None);
}

#[test]
fn the_file_of_a_dead_server_is_replaced_that_of_a_living_one_and_anything_else_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/sock");
    let first = Socket::bind(&path, None).unwrap();
    assert!(matches!(Socket::bind(&path, None), Err(Error::InUse { .. })));
    drop(first);
    assert!(!path.exists());
    // closed without removing the file, as after `kill -9`
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let second = Socket::bind(&path, None).unwrap();
    // a file that is not ours any more stays
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "something else").unwrap();
    drop(second);
    assert!(matches!(Socket::bind(&path, None), Err(Error::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else");
    // nor is a link followed, nor a directory taken away
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Socket::bind(&link, None), Err(Error::NotASocket { .. })));
    assert!(matches!(Socket::bind(dir.path(), None), Err(Error::NotASocket { .. })));
    assert_eq!(std::fs::read_link(&link).unwrap(), path);
    let long = dir.path().join("x".repeat(200));
    assert!(matches!(Socket::bind(&long, None), Err(Error::Make { .. })));
}

#[test]
fn ping_and_version_are_answered_while_the_engine_is_busy() {
    let served = Served::start();
    let mut busy: Vec<Client> = (0..10).map(|_| served.client()).collect();
    busy.iter_mut().for_each(|client| client.send(&["hang".into()]));
    let mut client = served.client();
    assert_eq!(client.ask(&["ping"]), Ok("pong".into()));
    assert_eq!(client.ask(&["ping", "0.1"]), Ok("pong".into()));
    assert_eq!(client.ask(&["version"]), Ok("7.0".into()));
    for client in &mut busy {
        served.release.send(()).unwrap();
        // in any order, so let all go on first
        let _ = client.stream.set_nonblocking(false);
    }
    for client in &mut busy {
        assert_eq!(client.reply(), Some(Ok(words(&["hang"]))));
    }
}

#[test]
fn a_command_without_an_answer_is_told_that_the_server_stops() {
    let served = Served::start();
    let failure = served.client().ask(&["drop"]).unwrap_err();
    assert_eq!(failure.arguments, [Value::List(vec!["SHUTDOWN".into()])]);
}

/// Both ends of all connections are in this process.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn silent_connections_make_room_for_new_ones_but_not_those_that_wait_for_an_answer() {
    raise_file_limit();
    let served = Served::start();
    let mut waiting = served.client();
    waiting.send(&["hang".into()]);
    // the command is under way when this one, sent later, has been read
    let mut begun = served.client();
    begun.stream.write_all(&protocol::request(&["x".into()])[..5]).unwrap();
    let silent: Vec<Client> = (0..MAX_CONNECTIONS + 50).map(|_| served.client()).collect();
    assert_eq!(served.client().ask(&["ping"]), Ok("pong".into()));
    served.release.send(()).unwrap();
    assert_eq!(waiting.reply(), Some(Ok(words(&["hang"]))));
    assert_eq!(begun.reply(), None);
    drop(silent);
}

#[test]
fn requests_cut_anywhere_in_json_and_pickle_are_answered_in_order() {
    let served = Served::start();
    let mut client = served.client();
    let bytes = [&b"[\"a\", 1]\n"[..], &protocol::request(&["b".into()]), b"{\"command\": [\"version\"]}\n"].concat();
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    client.stream.read_to_end(&mut all).unwrap();
    let expected = [
        b"{\"ok\":[\"a\",1]}\n".to_vec(),
        protocol::reply(Encoding::Pickle, &Ok(words(&["b"]))),
        b"{\"ok\":\"7.0\"}\n".to_vec(),
    ];
    assert_eq!(all, expected.concat());
}

#[test]
fn long_requests_pass_and_endless_ones_end_the_connection() {
    let served = Served::start();
    let long = "x".repeat(2 << 20);
    assert_eq!(served.client().ask(&["long", &long]), Ok(words(&["long", &long])));
    let mut endless = served.client();
    let piece = vec![b'x'; 1 << 20];
    let refused = (0..64).any(|_| endless.stream.write_all(&piece).is_err());
    assert!(refused && endless.reply().is_none());
}

#[test]
fn whoever_does_not_read_answers_holds_up_nobody() {
    let served = Served::start();
    let mut deaf = served.client();
    deaf.stream.set_nonblocking(true).unwrap();
    let request = protocol::request(&["x".repeat(50_000).as_str().into()]);
    // until the server takes no more, because its answers are not taken
    while deaf.stream.write_all(&request).is_ok() {}
    assert_eq!(served.client().ask(&["a"]), Ok(words(&["a"])));
}
