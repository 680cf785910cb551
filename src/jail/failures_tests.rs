#![expect(clippy::unwrap_used, reason = "a test may")]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::address::Prefix;
use crate::filter::Match;

const LIMITS: Limits = Limits { maxretry: 100, maxmatches: 3, findtime: 600.0, bantime: 600.0 };

fn id(n: u32) -> Id {
    Id::Prefix(Prefix::host(Ipv4Addr::from_bits(n).into()))
}

fn ticket(who: Id, seconds: i64, line: &str) -> Ticket {
    Ticket::manual(who, &[line], Time::from_seconds(seconds))
}

fn retries(times: &[i64]) -> (Vec<u32>, i64) {
    let mut failures = Failures::default();
    let mut counts = Vec::new();
    for time in times {
        assert!(failures.add(ticket(id(1), 10_000 + time, "x"), 1, &LIMITS).is_none());
        counts.push(failures.get(&id(1)).unwrap().retry);
    }
    (counts, failures.get(&id(1)).unwrap().first.seconds() - 10_000)
}

#[test]
fn failures_are_counted_as_a_rate() {
    for (times, counts, first) in [
        (&[0, 600][..], &[1, 2][..], 0),
        (&[0, 601], &[1, 2], 1),
        (&[0, 500, 1000], &[1, 2, 2], 400),
        (&[0, 10, 20, 700], &[1, 2, 3, 4], 100),
        (&[0, 400, 800, 1200, 1600], &[1, 2, 3, 3, 3], 1000),
        (&[0, 1, 2, 3, 1199], &[1, 2, 3, 4, 3], 599),
        (&[0, 200, 400, 600, 800], &[1, 2, 3, 4, 4], 200),
        (&[0, 599, 700, 800, 900], &[1, 2, 3, 4, 4], 300),
        (&[0, 150, 300, 450, 600, 750, 900], &[1, 2, 3, 4, 5, 5, 5], 300),
        // out of order, and older than the window: the times stay
        (&[1000, 100], &[1, 2], 1000),
        (&[5, 5], &[1, 2], 5),
    ] {
        assert_eq!(retries(times), (counts.to_vec(), first), "{times:?}");
    }
    let five = Limits { maxretry: 5, ..LIMITS };
    for times in [[0, 300, 601, 602, 603], [0, 1000, 1001, 1002, 1003]] {
        let mut failures = Failures::default();
        let reached: Vec<_> = times.iter().map(|t| failures.add(ticket(id(1), *t, "x"), 1, &five).is_some()).collect();
        assert_eq!(reached, [false, false, false, false, true]);
    }
}

#[test]
fn a_ban_takes_the_counter_with_its_last_lines_and_first_values() {
    let limits = Limits { maxretry: 5, ..LIMITS };
    let mut failures = Failures::default();
    for n in 0..4 {
        let mut ticket = ticket(id(1), n, &format!("line {n}"));
        ticket.details.data = vec![("user".into(), crate::filter::Datum::Text(format!("user{n}").into()))];
        assert!(failures.add(ticket, 1, &limits).is_none());
    }
    let counter = failures.add(ticket(id(1), 2, "late"), 1, &limits).unwrap();
    assert_eq!((counter.last, counter.failures, counter.retry), (Time::from_seconds(3), 5, 5));
    let lines: Vec<_> = counter.details.matches.iter().map(|matched| &*matched.line).collect();
    assert_eq!(lines, ["line 2", "line 3", "late"]);
    assert_eq!(counter.details.data[0].1, crate::filter::Datum::Text("user0".into()));
    assert_eq!((failures.len(), failures.total(), failures.kept), (0, 5, 0));
    let none = Limits { maxmatches: 0, ..limits };
    failures.add(ticket(id(2), 2, "x"), 1, &none);
    assert!(failures.get(&id(2)).unwrap().details.matches.is_empty());
}

#[test]
fn counters_are_forgotten_when_their_last_failure_is_one_findtime_old() {
    let mut failures = Failures::default();
    failures.add(ticket(id(1), 100, "x"), 1, &LIMITS);
    failures.add(ticket(id(2), 101, "x"), 1, &LIMITS);
    failures.clean(&LIMITS, Time::from_seconds(700));
    assert!(failures.get(&id(1)).is_none() && failures.get(&id(2)).is_some());
}

#[test]
fn only_changed_counters_are_stored_and_stored_ones_come_back() {
    let mut failures = Failures::default();
    failures.add(ticket(id(9), 1, "x"), 1, &LIMITS);
    assert!(failures.take_changes().is_empty());
    failures.track_changes(true);
    failures.add(ticket(id(1), 1, "a"), 1, &LIMITS);
    failures.add(ticket(id(1), 2, "b"), 1, &LIMITS);
    failures.add(ticket(id(2), 2, "c"), 1, &LIMITS);
    // came and went between two commits: nobody has to know
    failures.add(ticket(id(3), 2, "d"), 1, &LIMITS);
    failures.remove(&id(3));
    let mut changes = failures.take_changes();
    assert_eq!(changes.len(), 3);
    assert_eq!(changes.pop().unwrap(), Changed::Gone(id(3)));
    assert_eq!(changes[0], Changed::Set(failures.get(&id(1)).unwrap()));
    assert!(failures.take_changes().is_empty());
    failures.remove(&id(2));
    failures.add(ticket(id(2), 5, "again"), 1, &LIMITS);
    failures.remove(&id(1));
    let changes = failures.take_changes();
    assert_eq!(changes, [Changed::Set(failures.get(&id(2)).unwrap()), Changed::Gone(id(1))]);

    let mut restarted = Failures::default();
    restarted.track_changes(true);
    let counter = failures.get(&id(2)).unwrap();
    restarted.load(counter.clone());
    assert_eq!(restarted.get(&id(2)), Some(counter));
    assert!(restarted.take_changes().is_empty());
    restarted.remove(&id(2));
    assert_eq!(restarted.take_changes(), [Changed::Gone(id(2))]);
}

#[test]
fn the_weakest_and_oldest_counters_make_room() {
    let mut failures = Failures::default();
    failures.set_bounds(Bounds { sources: 80, details: MAX_DETAILS });
    for n in 0..10 {
        for _ in 0..2 {
            failures.add(ticket(id(n), 1, "strong"), 1, &LIMITS);
        }
    }
    for n in 0..200 {
        failures.add(ticket(id(1000 + n), 10 + i64::from(n), "weak"), 1, &LIMITS);
        assert!(failures.len() <= 80);
    }
    assert!((0..10).all(|n| failures.get(&id(n)).is_some()));
    assert!(failures.get(&id(1199)).is_some() && failures.get(&id(1000)).is_none());
    assert_eq!(failures.evicted() as usize, 210 - failures.len());
}

#[test]
fn long_lines_and_many_values_are_bounded() {
    let mut failures = Failures::default();
    let long = "ä".repeat(200_000);
    for time in 0..50 {
        let mut ticket = ticket(id(1), time, &long);
        ticket.details.data =
            (0..100).map(|n| (format!("f{n}").into(), crate::filter::Datum::Text(long.as_str().into()))).collect();
        failures.add(ticket, 1, &Limits { maxmatches: 1000, ..LIMITS });
    }
    let counter = failures.get(&id(1)).unwrap();
    assert!(counter.details.size() < 100_000, "{}", counter.details.size());
    assert!(counter.details.matches.iter().all(|Match { line, .. }| line.len() <= 16 * 1024));
    failures.set_bounds(Bounds { sources: 100, details: 300_000 });
    for n in 2..50 {
        failures.add(ticket(id(n), 100, &long), 1, &LIMITS);
        assert!(failures.kept <= 300_000);
    }
    assert_eq!(failures.len(), 49);
}

/// What Fail2Ban is specified to do, without any bounds, in a few lines.
#[derive(Default)]
struct Model(std::collections::BTreeMap<u8, (f64, f64, f64)>);

impl Model {
    fn add(&mut self, id: u8, t: f64, weight: u32, maxretry: u32) -> bool {
        let entry = self.0.entry(id).or_insert((t, t, 0.0));
        if t > entry.1 {
            if entry.0 < t - 600.0 {
                entry.2 = (entry.2 / (t - entry.0) * 600.0).round_ties_even();
                entry.0 = t - 600.0;
            }
            entry.1 = t;
        }
        entry.2 += f64::from(weight);
        let full = entry.2 >= f64::from(maxretry);
        if full {
            self.0.remove(&id);
        }
        full
    }
}

proptest! {
    #[test]
    fn any_sequence_counts_as_the_model_does(
        maxretry in 1..6_u32,
        steps in prop::collection::vec((0..4_u8, 0..3000_i64, 1..3_u32, 0..20_u8), 1..200),
    ) {
        let limits = Limits { maxretry, ..LIMITS };
        let (mut failures, mut model) = (Failures::default(), Model::default());
        for (who, time, weight, kind) in steps {
            if kind == 0 {
                failures.clean(&limits, Time::from_seconds(time));
                model.0.retain(|_, entry| entry.1 > time as f64 - 600.0);
            } else {
                let full = failures.add(ticket(id(who.into()), time, "x"), weight, &limits).is_some();
                prop_assert_eq!(full, model.add(who, time as f64, weight, maxretry));
            }
            prop_assert_eq!(failures.len(), model.0.len());
            for (who, entry) in &model.0 {
                let counter = failures.get(&id((*who).into())).unwrap();
                prop_assert_eq!((counter.first.as_f64(), counter.last.as_f64(), f64::from(counter.retry)), *entry);
            }
        }
    }
}

/// A million sources fail once, and among them a thousand fail a fifth time.
#[test]
#[ignore = "run by the next test, in a process of its own"]
fn flood() {
    let limits = Limits { maxretry: 5, ..LIMITS };
    let mut failures = Failures::default();
    failures.track_changes(true);
    let line = |n: u32| {
        format!("Mar  1 10:00:00 srv sshd[{n}]: Failed password for invalid user admin from {n} port 4711 ssh2")
    };
    let mut banned = 0;
    for n in 0..1_000_000_u32 {
        failures.add(ticket(id(n), i64::from(n / 10_000), &line(n)), 1, &limits);
        if n % 200 == 0 {
            let offender = 0x8000_0000 + n / 200 % 1000;
            banned +=
                u32::from(failures.add(ticket(id(offender), i64::from(n / 10_000), &line(n)), 1, &limits).is_some());
        }
        if n % 1000 == 0 {
            failures.take_changes();
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    println!("banned {banned}; evicted {}; peak {peak}", failures.evicted());
    assert_eq!(banned, 1000);
    assert!(peak.trim_end_matches(" kB").parse::<u64>().unwrap() < 150_000, "{peak}");
}

#[test]
fn a_million_sources_take_less_than_150_mb_and_hide_nobody() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "jail::failures::tests::flood", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success() && text.contains("banned 1000"), "{text}");
    assert_eq!(size_of::<(Id, Entry)>(), 56);
}
