//! Following log files: whatever happens to a log, each of its lines arrives once.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sekimori::line::MAX_LINE;
use sekimori::source::{
    Delivery, Encoding, Follower, Handler, Member, Method, Note, Opened, Pattern, Position, Spec, Start,
};
use sekimori::time::Time;

/// Everything that came, by tag.
#[derive(Default)]
struct Collector {
    lines: HashMap<u64, Vec<String>>,
    in_operation: Vec<bool>,
    cut: Vec<usize>,
    positions: HashMap<PathBuf, Position>,
    notes: Vec<String>,
    search: Option<Time>,
    largest: usize,
}

impl Handler for Collector {
    fn opened(&mut self, _tag: u64, log: &mut Opened<'_>) {
        if let Some(time) = self.search {
            let time_of = |line: &[u8]| {
                Some(Time::from_seconds(std::str::from_utf8(line).ok()?.split(' ').next()?.parse().ok()?))
            };
            log.search(time, time_of).unwrap();
        }
    }

    fn block(&mut self, delivery: &Delivery<'_>) {
        let block = delivery.block;
        self.largest = self.largest.max(block.bytes.len());
        assert_eq!(block.bytes.last(), Some(&b'\n'));
        if block.cut {
            self.cut.push(block.bytes.len() - 1);
        } else {
            for member in delivery.members {
                let lines = self.lines.entry(member.tag).or_default();
                lines.extend(
                    block
                        .bytes
                        .split_inclusive(|b| *b == b'\n')
                        .map(|line| String::from_utf8_lossy(&line[..line.len() - 1]).into_owned()),
                );
            }
        }
        self.in_operation.extend(delivery.members.iter().map(|member| member.in_operation));
        self.positions.insert(delivery.path.to_path_buf(), delivery.position.clone());
    }

    fn note(&mut self, _members: &[Member], _path: &Path, note: Note) {
        self.notes.push(format!("{note:?}"));
    }
}

impl Collector {
    fn take(&mut self, tag: u64) -> Vec<String> {
        self.lines.remove(&tag).unwrap_or_default()
    }
}

/// Reads until nothing is left. What was written before is known to the kernel's queue.
fn drain(follower: &mut Follower, collector: &mut Collector) {
    if follower.method() == Method::Polling {
        follower.look_at_all();
    }
    loop {
        follower.wait(Some(Duration::ZERO)).unwrap();
        if !follower.is_ready() {
            // a file that was emptied has a new position, but no lines that could bring it
            let positions = follower.positions().map(|(_, path, position)| (path.to_path_buf(), position));
            collector.positions.extend(positions);
            return;
        }
        follower.turn(collector);
    }
}

fn spec(pattern: Pattern, start: Start) -> Spec {
    Spec { pattern, encoding: Encoding::Unchanged, start, saved: HashMap::new() }
}

fn follow(path: &Path, start: Start) -> Follower {
    let mut follower = Follower::new(Method::Inotify).unwrap();
    follower.add(1, spec(Pattern::Path(path.to_owned()), start));
    follower
}

fn append(path: &Path, bytes: impl AsRef<[u8]>) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes.as_ref()).unwrap();
}

/// A small step in the life of a log.
#[derive(Clone, Debug)]
enum Step {
    /// So many whole lines.
    Write(u8),
    /// The beginning of a line; the next write ends it.
    Partial,
    /// Renamed; some more lines go to the old file before the new one is there.
    Rename(u8),
    /// Copied elsewhere and emptied; then so many lines.
    CopyTruncate(u8),
    /// Emptied, and filled again beyond its former length before anyone looks.
    TruncateAndRegrow,
    /// Removed, and made anew with so many lines.
    Recreate(u8),
    /// Everything is read.
    Read,
    /// The daemon is killed and goes on from the last committed position.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40_u8).prop_map(Step::Write),
        2 => Just(Step::Partial),
        1 => (0..5_u8).prop_map(Step::Rename),
        1 => (0..5_u8).prop_map(Step::CopyTruncate),
        1 => Just(Step::TruncateAndRegrow),
        1 => (0..5_u8).prop_map(Step::Recreate),
        3 => Just(Step::Read),
        2 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// The real file, and which lines ought to arrive.
struct World {
    folder: tempfile::TempDir,
    log: PathBuf,
    file: File,
    /// Every file begins with the same line.
    banner: bool,
    partial: String,
    expected: Vec<String>,
    number: u32,
    size: u64,
}

impl World {
    fn line(&mut self) {
        self.number += 1;
        let line = format!("{}line {} {}", self.partial, self.number, "x".repeat(self.number as usize * 37 % 90));
        let rest = line[self.partial.len()..].to_owned() + "\n";
        self.write(&rest);
        self.partial.clear();
        self.expected.push(line);
    }

    fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).unwrap();
        self.size += text.len() as u64;
    }

    fn begin(&mut self) {
        self.size = 0;
        self.partial.clear();
        if self.banner {
            self.write("this log begins like every other\n");
            self.expected.push("this log begins like every other".to_owned());
            // a file that is as long as another and equal to it cannot be told from it
            self.line();
        }
    }

    fn open(log: &Path) -> File {
        OpenOptions::new().append(true).create(true).open(log).unwrap()
    }
}

/// Where lines are lost by nature, the steps read first: a file that is emptied or removed, or
/// a second change of the file before the first one was seen (between two looks only the last
/// file that had the path is found), and a restart between such a change and the next look
/// (a file is known again by its first line, and rotated ones by their inode).
fn live(method: Method, banner: bool, steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    let file = World::open(&log);
    let mut world =
        World { folder, log, file, banner, partial: String::new(), expected: Vec::new(), number: 0, size: 0 };
    world.begin();
    let mut collector = Collector::default();
    let start = |collector: &Collector, world: &World| {
        let mut follower = Follower::new(method).unwrap();
        let pattern = Pattern::Path(world.log.clone());
        let saved = collector.positions.clone();
        follower.add(1, Spec { pattern, encoding: Encoding::Unchanged, start: Start::Head, saved });
        follower
    };
    let mut follower = start(&collector, &world);
    // a file that was renamed before anyone ever looked is not known
    drain(&mut follower, &mut collector);
    let (mut replaced, mut renamed, mut known) = (false, false, false);
    for step in steps {
        match step {
            Step::Write(count) => (0..*count).for_each(|_| world.line()),
            Step::Partial => {
                world.write("part ");
                world.partial.push_str("part ");
            }
            Step::Rename(late) => {
                if replaced || renamed {
                    drain(&mut follower, &mut collector);
                }
                (replaced, renamed) = (false, true);
                let old = fs::metadata(&world.log).unwrap();
                known = collector
                    .positions
                    .get(&world.log)
                    .is_some_and(|saved| saved.inode == old.ino() && (1..=old.len()).contains(&saved.offset));
                if !world.partial.is_empty() {
                    world.line();
                }
                let old = world.folder.path().join(format!("app.log.{}", world.number));
                fs::rename(&world.log, old).unwrap();
                (0..*late).for_each(|_| world.line());
                world.file = World::open(&world.log);
                world.begin();
            }
            Step::CopyTruncate(count) => {
                drain(&mut follower, &mut collector);
                (replaced, renamed) = (true, false);
                fs::copy(&world.log, world.folder.path().join("copy")).unwrap();
                world.file.set_len(0).unwrap();
                world.begin();
                (0..*count).for_each(|_| world.line());
            }
            Step::TruncateAndRegrow => {
                drain(&mut follower, &mut collector);
                (replaced, renamed) = (true, false);
                let before = world.size;
                world.file.set_len(0).unwrap();
                world.begin();
                while world.size <= before {
                    world.line();
                }
            }
            Step::Recreate(count) => {
                drain(&mut follower, &mut collector);
                (replaced, renamed) = (true, false);
                fs::remove_file(&world.log).unwrap();
                world.file = World::open(&world.log);
                world.begin();
                (0..*count).for_each(|_| world.line());
            }
            Step::Read => {
                drain(&mut follower, &mut collector);
                (replaced, renamed) = (false, false);
            }
            Step::Restart => {
                // a rename is survived if anything of the file was read before, and the new one
                // begins otherwise
                if replaced || (renamed && (banner || !known)) {
                    drain(&mut follower, &mut collector);
                    (replaced, renamed) = (false, false);
                }
                drop(follower);
                follower = start(&collector, &world);
                if !renamed {
                    drain(&mut follower, &mut collector);
                }
            }
        }
    }
    drain(&mut follower, &mut collector);
    let mut got = collector.take(1);
    // lines that were written to a renamed file while the new one was read come a little later
    got.sort();
    world.expected.sort();
    let missing: Vec<&String> = world.expected.iter().filter(|line| !got.contains(line)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert_eq!(got.len(), world.expected.len(), "some lines came twice");
    assert_eq!(got, world.expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_arrives_once_with_inotify(steps in steps(), banner in any::<bool>()) {
        live(Method::Inotify, banner, &steps);
    }

    #[test]
    fn every_line_arrives_once_with_polling(steps in steps(), banner in any::<bool>()) {
        live(Method::Polling, banner, &steps);
    }
}

#[test]
fn a_line_without_its_newline_waits() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    append(&log, "one\ntw");
    let (mut follower, mut got) = (follow(&log, Start::Head), Collector::default());
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["one"]);
    append(&log, b"o\r\n\0\xff three\n");
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["two\r", "\0\u{fffd} three"]);
}

#[test]
fn a_line_that_is_too_long_is_cut_and_its_rest_is_passed_over_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    for (long, cuts) in [(MAX_LINE - 1, 0), (MAX_LINE, 0), (MAX_LINE + 1, 1), (2 * MAX_LINE, 1), (1 << 22, 1)] {
        for before in [0, 7, MAX_LINE - 3, MAX_LINE + 5] {
            let _ = fs::remove_file(&log);
            append(&log, "b\n".repeat(before / 2) + &"x".repeat(long) + "\nafter\n" + &"y".repeat(MAX_LINE + 9));
            let (mut follower, mut got) = (follow(&log, Start::Head), Collector::default());
            drain(&mut follower, &mut got);
            // the rest of a line that is not even complete
            append(&log, "yyy");
            drain(&mut follower, &mut got);
            append(&log, "yyy\nlast\n");
            drain(&mut follower, &mut got);
            let lines: Vec<String> = got.take(1).into_iter().filter(|line| line != "b").collect();
            assert_eq!(lines[lines.len() - 2..], ["after", "last"]);
            assert_eq!(lines.len() - 2, 1 - cuts, "{long} after {before}");
            assert_eq!(got.cut, vec![MAX_LINE; cuts + 1]);
            assert!(got.largest <= 2 * MAX_LINE + 1);
        }
    }
}

#[test]
fn the_rest_of_a_cut_line_is_no_line_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    append(&log, "a\n".to_owned() + &"x".repeat(3 * MAX_LINE));
    let (mut follower, mut got) = (follow(&log, Start::Head), Collector::default());
    drain(&mut follower, &mut got);
    drop(follower);
    append(&log, " fail from 192.0.2.1\nb\n");
    let mut follower = Follower::new(Method::Inotify).unwrap();
    let saved = got.positions.clone();
    follower.add(1, Spec { saved, ..spec(Pattern::Path(log), Start::Head) });
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["a", "b"]);
    assert_eq!(got.cut.len(), 1);
}

#[test]
fn other_encodings_become_utf_8() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    // the characters of the second line have a newline's byte in them
    let text = "caf\u{e9} 1\n\u{a0a}\u{10a}\u{a00}\nlast\n";
    let utf16: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let utf32: Vec<u8> = text.chars().flat_map(|c| (c as u32).to_be_bytes()).collect();
    for (name, bytes) in [("utf-16", utf16), ("utf-32-be", utf32)] {
        let _ = fs::remove_file(&log);
        let (first, second) = bytes.split_at(11);
        append(&log, first);
        let mut follower = Follower::new(Method::Inotify).unwrap();
        let encoding = Encoding::from_name(name).unwrap();
        follower.add(1, Spec { encoding, ..spec(Pattern::Path(log.clone()), Start::Head) });
        let mut got = Collector::default();
        drain(&mut follower, &mut got);
        append(&log, second);
        drain(&mut follower, &mut got);
        assert_eq!(got.take(1).join("\n") + "\n", text, "{name}");
        assert_eq!(got.positions[&log].offset, bytes.len() as u64);
    }
    let _ = fs::remove_file(&log);
    append(&log, [&b"caf\xe9\n"[..], &[0xe9; MAX_LINE], b"\nend\n"].concat());
    let mut follower = Follower::new(Method::Inotify).unwrap();
    let encoding = Encoding::from_name("latin-1").unwrap();
    follower.add(1, Spec { encoding, ..spec(Pattern::Path(log), Start::Head) });
    let mut got = Collector::default();
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["caf\u{e9}", "end"]);
    assert_eq!(got.cut, [MAX_LINE]);
}

#[test]
fn a_log_is_in_operation_after_its_end_was_reached_with_something_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    append(&log, "");
    let (mut follower, mut got) = (follow(&log, Start::Head), Collector::default());
    drain(&mut follower, &mut got);
    for line in ["a\n", "b\n"] {
        append(&log, line);
        drain(&mut follower, &mut got);
    }
    assert_eq!(got.in_operation, [false, true]);
    let (mut follower, mut got) = (follow(&log, Start::Tail), Collector::default());
    drain(&mut follower, &mut got);
    append(&log, "c\n");
    drain(&mut follower, &mut got);
    assert_eq!((got.take(1), got.in_operation), (vec!["c".to_owned()], vec![true]));
}

#[test]
fn several_jails_share_one_reading_of_a_log_and_each_begins_where_it_left_off() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    append(&log, "one\ntwo\nthree\n");
    let mut follower = follow(&log, Start::Head);
    let mut got = Collector::default();
    drain(&mut follower, &mut got);
    let mut half = got.positions[&log].clone();
    half.offset = 8;
    let saved = HashMap::from([(log.clone(), half)]);
    follower.add(2, Spec { saved, ..spec(Pattern::Path(log.clone()), Start::Head) });
    follower.add(3, spec(Pattern::Glob(folder.path().join("*.log")), Start::Tail));
    drain(&mut follower, &mut got);
    append(&log, "four\n");
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["one", "two", "three", "four"]);
    assert_eq!(got.take(2), ["three", "four"]);
    assert_eq!(got.take(3), ["four"]);
    assert!(follower.remove(1, &Pattern::Path(log.clone())));
    follower.remove_all(2);
    append(&log, "five\n");
    drain(&mut follower, &mut got);
    assert_eq!((got.take(1).len(), got.take(2).len(), got.take(3)), (0, 0, vec!["five".to_owned()]));
}

#[test]
fn each_jail_gets_the_rest_of_a_file_that_was_renamed_while_nobody_followed_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    append(&path, "a1\n");
    let (mut follower, mut collector) = (follow(&path, Start::Head), Collector::default());
    drain(&mut follower, &mut collector);
    let earlier = collector.positions.clone();
    append(&path, "a2\n");
    drain(&mut follower, &mut collector);
    let later = collector.positions.clone();
    drop(follower);
    append(&path, "a3\n");
    fs::rename(&path, dir.path().join("x.log.1")).unwrap();
    append(&path, "b1\n");

    let (mut follower, mut collector) = (Follower::new(Method::Inotify).unwrap(), Collector::default());
    // one after the other, the first has read all by the time that the others come
    for (tag, saved, expected) in [
        (1, later.clone(), &["a3", "b1"][..]),
        (2, earlier, &["a2", "a3", "b1"]),
        (3, HashMap::new(), &["b1"]),
        (4, later, &["a3", "b1"]),
    ] {
        let spec = Spec { saved, ..spec(Pattern::Path(path.clone()), Start::Head) };
        follower.add(tag, spec);
        drain(&mut follower, &mut collector);
        assert_eq!(collector.take(tag), expected, "{tag}");
        assert!(collector.lines.is_empty(), "{:?}", collector.lines);
    }
}

#[test]
fn reading_begins_near_the_first_line_that_is_young_enough() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    let mut text = String::new();
    for second in 0..100_000 {
        text.push_str(&format!("{second} some line\n"));
        if second % 10 == 0 {
            text.push_str("a line without a time\n");
        }
    }
    append(&log, text);
    let (mut follower, mut got) = (follow(&log, Start::Head), Collector::default());
    got.search = Some(Time::from_seconds(77_777));
    drain(&mut follower, &mut got);
    let lines = got.take(1);
    assert!(lines.iter().any(|line| line.starts_with("77777 ")));
    assert!(lines.len() < 30_000, "{} lines were read", lines.len());
}

#[test]
fn files_and_directories_that_appear_vanish_and_return_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let mut follower = Follower::new(Method::Inotify).unwrap();
    follower.add(1, spec(Pattern::Glob(at("sites/*/logs/*.log")), Start::Tail));
    follower.add(2, spec(Pattern::Path(at("deep/er/[x].log")), Start::Tail));
    let mut got = Collector::default();
    drain(&mut follower, &mut got);
    for round in 0..3 {
        fs::create_dir_all(at("sites/a/logs")).unwrap();
        append(&at("sites/a/logs/x.log"), format!("a{round}\n"));
        fs::create_dir_all(at("deep/er")).unwrap();
        append(&at("deep/er/[x].log"), format!("d{round}\n"));
        append(&at("deep/er/x.log"), "not this one\n");
        drain(&mut follower, &mut got);
        append(&at("sites/a/logs/x.log"), format!("b{round}\n"));
        fs::create_dir_all(at("sites/b")).unwrap();
        fs::create_dir_all(at("sites/b/logs")).unwrap();
        append(&at("sites/b/logs/y.log"), format!("c{round}\n"));
        drain(&mut follower, &mut got);
        let mut lines = got.take(1);
        lines.sort();
        assert_eq!(lines, [format!("a{round}"), format!("b{round}"), format!("c{round}")]);
        assert_eq!(got.take(2), [format!("d{round}")]);
        fs::remove_dir_all(at("sites/b")).unwrap();
        fs::rename(at("sites"), at(&format!("old{round}"))).unwrap();
        fs::remove_dir_all(at("deep")).unwrap();
        drain(&mut follower, &mut got);
    }
}

#[test]
fn a_symbolic_link_may_come_to_mean_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    append(&at("one"), "1\n");
    append(&at("two"), "2\n");
    std::os::unix::fs::symlink("one", at("log")).unwrap();
    let (mut follower, mut got) = (follow(&at("log"), Start::Head), Collector::default());
    drain(&mut follower, &mut got);
    append(&at("one"), "1b\n");
    drain(&mut follower, &mut got);
    std::os::unix::fs::symlink("two", at("new")).unwrap();
    fs::rename(at("new"), at("log")).unwrap();
    drain(&mut follower, &mut got);
    append(&at("two"), "2b\n");
    append(&at("one"), "1c\n"); // its writer has not been told yet
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["1", "1b", "2", "1c", "2b"]);
}

#[test]
fn a_renamed_file_that_matches_the_pattern_too_is_not_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    append(&at("x.log"), "1\n");
    let mut follower = Follower::new(Method::Inotify).unwrap();
    follower.add(1, spec(Pattern::Glob(at("x.log*")), Start::Head));
    let mut got = Collector::default();
    drain(&mut follower, &mut got);
    append(&at("x.log"), "2\n");
    fs::rename(at("x.log"), at("x.log.1")).unwrap();
    append(&at("x.log"), "3\n");
    append(&at("x.log.1"), "4\n");
    drain(&mut follower, &mut got);
    let mut lines = got.take(1);
    lines.sort();
    assert_eq!(lines, ["1", "2", "3", "4"]);
}

#[test]
fn what_is_no_regular_file_is_not_opened_and_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("x.log");
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let (mut follower, mut got) = (follow(&log, Start::Head), Collector::default());
    drain(&mut follower, &mut got);
    follower.look_at_all();
    drain(&mut follower, &mut got);
    assert_eq!(got.notes, ["Gone"]);
    fs::remove_file(&log).unwrap();
    append(&log, "now\n");
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1), ["now"]);
}

#[test]
fn a_file_that_grows_all_the_time_does_not_keep_the_others_waiting() {
    struct Greedy(PathBuf, Vec<u8>, usize, Option<usize>);
    impl Handler for Greedy {
        fn block(&mut self, delivery: &Delivery<'_>) {
            self.2 += 1;
            if delivery.path.ends_with("quiet.log") {
                self.3.get_or_insert(self.2);
            } else {
                append(&self.0, &self.1);
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let bulk = b"0123456789abcde\n".repeat(20_000);
    append(&at("busy.log"), &bulk);
    let mut follower = Follower::new(Method::Inotify).unwrap();
    follower.add(1, spec(Pattern::Glob(at("*.log")), Start::Head));
    let mut handler = Greedy(at("busy.log"), bulk, 0, None);
    follower.turn(&mut handler);
    append(&at("quiet.log"), "here\n");
    while handler.3.is_none() {
        assert!(handler.2 < 100, "the quiet log was never read");
        follower.wait(None).unwrap();
        follower.turn(&mut handler);
    }
}

#[test]
fn a_waker_ends_the_wait() {
    let mut follower = Follower::new(Method::Inotify).unwrap();
    let waker = follower.waker();
    let thread = std::thread::spawn(move || waker.wake());
    while !follower.wait(None).unwrap() {}
    thread.join().unwrap();
    assert!(!follower.wait(Some(Duration::ZERO)).unwrap());
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_thousand_logs_behind_one_glob_need_one_thread_and_little_memory() {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = |number: u32| folder.path().join(format!("site{number}/access.log"));
    for number in 0..2000 {
        fs::create_dir(log(number).parent().unwrap()).unwrap();
        append(&log(number), format!("first line of {number}\n"));
    }
    let before = resident();
    let started = Instant::now();
    let mut follower = Follower::new(Method::Inotify).unwrap();
    follower.add(1, spec(Pattern::Glob(folder.path().join("*/access.log")), Start::Head));
    let mut got = Collector::default();
    drain(&mut follower, &mut got);
    assert_eq!(got.take(1).len(), 2000);
    let ready = started.elapsed();
    let memory = resident().saturating_sub(before);
    let mut latencies: Vec<Duration> = (0..2000)
        .step_by(20)
        .map(|number| {
            let written = Instant::now();
            append(&log(number), "fail\n");
            while !got.lines.contains_key(&1) {
                follower.wait(None).unwrap();
                follower.turn(&mut got);
            }
            got.take(1);
            written.elapsed()
        })
        .collect();
    latencies.sort();
    println!(
        "2000 logs: read after {ready:?}, {memory} KiB more resident, a line arrives after {:?} (median), {:?} (worst)",
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1]
    );
    // a log may cost some KiB; the collector's own lines are in it
    assert!(memory < 16 * 1024, "{memory} KiB");
}
