#![expect(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Time {
    Time::from_seconds(seconds)
}

fn jail(maxretry: u32) -> Jail {
    let mut jail = Jail::default();
    jail.set_limits(Limits { maxretry, ..Limits::default() });
    jail
}

fn fail(jail: &mut Jail, id: &str, time: i64, past: impl Into<Past>) -> Vec<Decision> {
    let ticket = Ticket::manual(Id::parse(id), &["a line"], at(time));
    jail.failure(ticket, &past.into(), &mut Moment { now: at(time), random: &mut || 0.5 })
}

fn names(decisions: &[Decision]) -> Vec<&'static str> {
    decisions
        .iter()
        .map(|decision| match decision {
            Decision::Found { .. } => "found",
            Decision::Attempt { .. } => "attempt",
            Decision::FoundBad { .. } => "bad",
            Decision::Ban { .. } => "ban",
            Decision::Prolong(_) => "prolong",
            Decision::AlreadyBanned { .. } => "already",
            Decision::Expired(_) => "expired",
            Decision::Unban { .. } => "unban",
        })
        .collect()
}

fn history(count: u32, time: i64) -> Option<History> {
    Some(History { count, time: at(time), bantime: 600.0 })
}

fn growing(maxretry: u32, increment: Increment) -> Jail {
    let mut jail = jail(maxretry);
    jail.set_increment(Increment { enabled: true, ..increment });
    jail
}

#[test]
fn maxretry_failures_are_a_ban_and_bantime_later_it_ends() {
    let mut jail = jail(3);
    assert_eq!(names(&fail(&mut jail, "192.0.2.1", 1000, None)), ["found"]);
    assert_eq!(names(&fail(&mut jail, "192.0.2.1", 1001, None)), ["found"]);
    let decisions = fail(&mut jail, "192.0.2.1", 1002, None);
    let [_, Decision::Ban { ban, base, grown }] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((ban.time, ban.count, ban.failures, *base, *grown), (at(1002), 1, 3, 600.0, None));
    assert_eq!(ban.details.matches.len(), 3);
    assert_eq!((jail.failures.len(), jail.failures.total(), jail.bans().len()), (0, 3, 1));
    assert_eq!(jail.next_end(), Some(at(1602)));
    assert!(jail.expire(at(1602)).is_empty());
    let [Decision::Unban { reason: Reason::Time, .. }] = jail.expire(at(1603))[..] else { panic!() };
    assert_eq!(jail.next_end(), None);
}

#[test]
fn maxretry_0_behaves_like_1() {
    assert_eq!(names(&fail(&mut jail(0), "192.0.2.1", 1000, None)), ["found", "ban"]);
}

#[test]
fn a_banned_one_who_still_fails_is_told_apart_by_the_age_of_the_ban() {
    let mut jail = jail(1);
    fail(&mut jail, "192.0.2.1", 1000, None);
    for (time, staleness) in
        [(1002, Staleness::Usual), (1003, Staleness::Odd), (1059, Staleness::Odd), (1060, Staleness::Bad)]
    {
        let decisions = fail(&mut jail, "192.0.2.1", time, None);
        assert_eq!(names(&decisions), ["found", "prolong", "already"]);
        let Decision::AlreadyBanned { age, .. } = decisions[2] else { panic!() };
        assert_eq!(Staleness::of(age), staleness);
    }
    assert_eq!(jail.next_end(), Some(at(1660)));
}

#[test]
fn old_failures_do_not_ban_what_would_be_over() {
    let mut jail = jail(1);
    let ticket = Ticket::manual(Id::parse("192.0.2.1"), &[], at(1000));
    let decisions = jail.failure(ticket, &Past::default(), &mut Moment { now: at(5000), random: &mut || 0.0 });
    assert_eq!(names(&decisions), ["found", "expired"]);
}

#[test]
fn known_offenders_are_banned_sooner_and_longer() {
    let mut jail = growing(3, Increment::default());
    let decisions = fail(&mut jail, "192.0.2.1", 1000, history(2, 500));
    assert_eq!(names(&decisions), ["found", "bad", "ban"]);
    let Decision::FoundBad { count, weight, limited, ban, .. } = decisions[1] else { panic!() };
    assert_eq!((count, weight, limited, ban), (2, 3, false, true));
    let Decision::Ban { ban, grown, .. } = &decisions[2] else { panic!() };
    assert_eq!((ban.own, ban.count, ban.restored), (Some(2400.0), 3, false));
    let grown = grown.unwrap();
    assert_eq!((grown.bantime, grown.increased, grown.known), (2400.0, true, false));
    assert_eq!(jail.next_end(), Some(at(3400)));

    // one earlier ban: a failure counts 2
    let decisions = fail(&mut jail, "192.0.2.2", 1000, history(1, 500));
    assert_eq!(names(&decisions), ["found", "bad"]);
    assert_eq!(jail.failures.get(&Id::parse("192.0.2.2")).unwrap().retry, 2);
    // the failure was before that ban: it is being read again
    assert_eq!(names(&fail(&mut jail, "192.0.2.3", 1000, history(9, 1000))), ["found"]);
    let off = &mut self::jail(3);
    assert_eq!(names(&fail(off, "192.0.2.1", 1000, history(9, 500))), ["found"]);
}

#[test]
fn bans_of_all_jails_count_if_asked_for() {
    let mut jail = growing(1, Increment { overalljails: true, ..Increment::default() });
    let past = Past { here: None, everywhere: history(3, 10) };
    let decisions = fail(&mut jail, "192.0.2.1", 1000, past);
    let Decision::Ban { ban, .. } = &decisions[1] else { panic!("{decisions:?}") };
    assert_eq!(ban.own, Some(4800.0));
}

#[test]
fn permanent_bans_do_not_grow_and_do_not_end() {
    let mut jail = growing(1, Increment::default());
    jail.set_limits(Limits { bantime: PERMANENT, maxretry: 1, ..Limits::default() });
    fail(&mut jail, "192.0.2.1", 1000, history(3, 10));
    assert_eq!(jail.bans().iter().next().unwrap().own, None);
    assert!(jail.expire(at(i64::from(u32::MAX))).is_empty());
    // a finite bantime gives it an end after all
    jail.set_limits(Limits { bantime: 10.0, ..jail.limits().clone() });
    assert_eq!(names(&jail.expire(at(1011))), ["unban"]);
}

#[test]
fn a_shorter_bantime_ends_running_bans_at_once() {
    let mut jail = jail(1);
    fail(&mut jail, "192.0.2.1", 1000, None);
    jail.set_limits(Limits { bantime: 5.0, ..jail.limits().clone() });
    assert_eq!(jail.next_end(), Some(at(1005)));
    assert_eq!(names(&jail.expire(at(1006))), ["unban"]);
}

#[test]
fn restored_bans_keep_their_own_time_and_a_fresh_failure_may_be_first() {
    let mut jail = growing(1, Increment::default());
    let row = |id: &str, time| Ban { own: Some(500.0), count: 2, ..Ban::new(Id::parse(id), at(time)) };
    let decisions = jail.restore(row("192.0.2.1", 900), at(1000));
    let [Decision::Ban { ban, grown: None, .. }] = &decisions[..] else { panic!() };
    assert_eq!((ban.restored, ban.count, ban.own), (true, 3, Some(500.0)));
    assert_eq!(names(&jail.restore(row("192.0.2.2", 400), at(1000))), ["expired"]);
    fail(&mut jail, "192.0.2.3", 1000, None);
    assert_eq!(names(&jail.restore(row("192.0.2.3", 900), at(1000))), ["already"]);
}

#[test]
fn bans_by_hand_count_once_and_networks_free_what_is_inside() {
    let mut jail = jail(3);
    let mut ban = |id: &str| {
        names(&jail.ban(Id::parse(id), &Past::default(), &mut Moment { now: at(1000), random: &mut || 0.0 }))
    };
    for id in ["192.0.2.1", "192.0.2.2", "198.18.0.0/24", "not-an-ip", "2001:db8::62"] {
        assert_eq!(ban(id), ["ban"], "{id}");
    }
    assert_eq!(ban("192.0.2.1"), ["already"]);
    assert!(jail.unban(&Id::parse("192.0.2.250")).is_empty());
    assert_eq!(jail.unban(&Id::parse("192.0.2.0/24")).len(), 2);
    assert_eq!(jail.unban(&Id::parse("198.18.0.0/24")).len(), 1);
    assert_eq!(jail.unban(&Id::parse("not-an-ip")).len(), 1);
    let [Decision::Unban { reason: Reason::Stop, .. }] = jail.flush(Reason::Stop)[..] else { panic!() };
}

#[test]
fn an_attempt_counts_once_for_each_line() {
    let mut jail = jail(3);
    let mut attempt = |lines: &[&str]| {
        let ticket = Ticket::manual(Id::parse("192.0.2.50"), lines, at(1000));
        jail.attempt(ticket, &Past::default(), &mut Moment { now: at(1000), random: &mut || 0.0 })
    };
    assert_eq!(names(&attempt(&["line one", "line two"])), ["attempt"]);
    let decisions = attempt(&[]);
    let [_, Decision::Ban { ban, .. }] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!(ban.failures, 2);
}

#[test]
fn outdated_counters_go_by_themselves() {
    let mut jail = jail(3);
    fail(&mut jail, "192.0.2.1", 1000, None);
    jail.expire(at(1599));
    assert_eq!(jail.failures.len(), 1);
    jail.expire(at(1601));
    assert_eq!(jail.failures.len(), 1, "only every five seconds");
    jail.expire(at(1604));
    assert_eq!(jail.failures.len(), 0);
}

proptest! {
    /// Whoever is banned by a plain list of (id, end) is banned here, and nobody else.
    #[test]
    fn any_sequence_bans_and_frees_as_a_plain_list_does(
        steps in prop::collection::vec((0..5_u8, 0..6_u8, 0..40_i64, 0..100_i64), 1..150),
    ) {
        let mut jail = jail(1);
        jail.set_limits(Limits { maxretry: 1, bantime: 50.0, ..Limits::default() });
        let mut model: Vec<(Id, i64, Option<i64>)> = Vec::new();
        let (mut now, mut bantime) = (1000, 50);
        for (who, kind, later, length) in steps {
            now += later;
            let id = Id::parse(&format!("192.0.2.{who}"));
            let end = |entry: &(Id, i64, Option<i64>), bantime: i64| entry.1 + entry.2.unwrap_or(bantime);
            let gone: Vec<Id> = jail.expire(at(now)).into_iter().map(|decision| match decision {
                Decision::Unban { ban, .. } => ban.id,
                other => panic!("{other:?}"),
            }).collect();
            let expected: Vec<Id> =
                model.iter().filter(|entry| end(entry, bantime) < now).map(|entry| entry.0.clone()).collect();
            model.retain(|entry| end(entry, bantime) >= now);
            prop_assert_eq!(gone.len(), expected.len());
            prop_assert!(expected.iter().all(|id| gone.contains(id)));
            match kind {
                0 => {
                    prop_assert_eq!(jail.unban(&id).len(), usize::from(model.iter().any(|entry| entry.0 == id)));
                    model.retain(|entry| entry.0 != id);
                }
                1 => {
                    bantime = length;
                    jail.set_limits(Limits { bantime: length as f64, ..jail.limits().clone() });
                }
                _ => {
                    fail(&mut jail, &id.to_string(), now, None);
                    match model.iter_mut().find(|entry| entry.0 == id) {
                        None => model.push((id, now, None)),
                        Some(entry) if now + bantime > end(entry, bantime) => entry.2 = Some(now + bantime - entry.1),
                        Some(_) => {}
                    }
                }
            }
            let banned: Vec<_> = jail.bans().iter().map(|ban| ban.id.clone()).collect();
            let expected: Vec<_> = model.iter().map(|entry| entry.0.clone()).collect();
            prop_assert_eq!(banned, expected);
            let first = model.iter().map(|entry| end(entry, bantime)).min();
            prop_assert_eq!(jail.next_end(), first.map(at));
        }
    }
}
