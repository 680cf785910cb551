use super::*;
use crate::config::UseDns;
use crate::filter::Match;
use crate::server::setup::Ignore;

struct Stage {
    questions: Questions,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Stage {
    fn start() -> Stage {
        let (tell, answers) = mpsc::unbounded_channel();
        let tell = move |answer| {
            let _ = tell.send(answer);
        };
        Stage { questions: Questions::start(&Handle::current(), tell), answers }
    }

    fn ask(&self, jail: &str, tag: u64, failure: Failure, policy: &Arc<Policy>) -> Result<(), Full> {
        self.questions.ask(Question {
            jail: jail.into(),
            tag,
            failure,
            policy: policy.clone(),
            circumstances: Circumstances::default(),
        })
    }

    async fn answer(&mut self) -> Answer {
        self.answers.recv().await.unwrap()
    }

    /// Asks one question and shows the answer: `ID by RULE` or `ID`, then the messages.
    async fn shown(&mut self, failure: Failure, policy: &Arc<Policy>) -> Vec<String> {
        self.ask("door", 0, failure, policy).unwrap();
        let answer = self.answer().await;
        let failures = answer.failures.iter().map(|judged| match &judged.ignored {
            Some(by) if judged.cached => format!("{} by {by}, cached", judged.id),
            Some(by) => format!("{} by {by}", judged.id),
            None => judged.id.to_string(),
        });
        failures.chain(answer.notes.iter().map(|note| note.text.clone())).collect()
    }
}

fn failure(who: &str, data: &[(&str, &str)]) -> Failure {
    Failure {
        regex: 0,
        who: Who::Id(Id::parse(who)),
        time: None,
        address: None,
        matches: vec![Match { line: "a line".into(), date: (0, 0) }],
        data: data.iter().map(|(name, text)| ((*name).into(), Datum::Text((*text).into()))).collect(),
    }
}

fn named_failure(name: &str) -> Failure {
    Failure { who: Who::Name(name.into()), ..failure("", &[]) }
}

fn policy(list: &[&str], command: &str) -> Policy {
    let list = list.iter().map(|entry| (*entry).to_owned()).collect();
    let ignore = Ignore { list, own: true, command: Some(command.to_owned()), ..Ignore::default() };
    Policy::new(&ignore, UseDns::Warn, Arc::new(["127.0.0.0/8".parse().unwrap()].into_iter().collect()))
}

fn with_cache(command: &str, key: &str, count: i64, seconds: f64) -> Arc<Policy> {
    let cache = Some((key.to_owned(), count, seconds));
    let ignore = Ignore { command: Some(command.to_owned()), cache, ..Ignore::default() };
    Arc::new(Policy::new(&ignore, UseDns::No, Arc::default()))
}

#[tokio::test]
async fn the_command_says_whom_to_ignore_by_its_status() {
    let mut stage = Stage::start();
    let by_user = Arc::new(policy(&[], "test <F-USER> = bob"));
    assert_eq!(stage.shown(failure("192.0.2.1", &[("user", "bob")]), &by_user).await, ["192.0.2.1 by command"]);
    assert_eq!(stage.shown(failure("192.0.2.1", &[("user", "eve")]), &by_user).await, ["192.0.2.1"]);
    let broken = Arc::new(policy(&[], "echo why >&2; echo more >&2; exit 3"));
    let said = "[door] ignorecommand returned 3, neither 0 (ignore) nor 1 (count): why; counting the failure";
    assert_eq!(stage.shown(failure("192.0.2.1", &[]), &broken).await, ["192.0.2.1", said]);
    assert_eq!(stage.shown(failure("192.0.2.1", &[]), &broken).await, ["192.0.2.1"], "it is not said each time");
    let flood = Arc::new(policy(&[], "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2"));
    assert_eq!(stage.shown(failure("192.0.2.1", &[]), &flood).await, ["192.0.2.1 by command"]);
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_and_holds_up_its_own_jail_only() {
    let mut stage = Stage::start();
    let mut hangs = policy(&[], "test <ip> = 192.0.2.2 || sleep 600");
    hangs.deadline = Duration::from_millis(300);
    let hangs = Arc::new(hangs);
    stage.ask("slow", 1, failure("192.0.2.1", &[]), &hangs).unwrap();
    stage.ask("slow", 2, failure("192.0.2.2", &[]), &hangs).unwrap();
    stage.ask("door", 3, failure("192.0.2.1", &[]), &Arc::new(policy(&[], "true"))).unwrap();
    let order = [stage.answer().await, stage.answer().await, stage.answer().await];
    let tags = order.each_ref().map(|answer| answer.tag);
    assert_eq!(tags, [3, 1, 2], "another jail is not held up, and the order within one is kept");
    let [_, hung, other] = order;
    assert!(hung.failures[0].ignored.is_none() && hung.notes[0].text.contains("it took longer than 300ms"));
    assert_eq!(other.failures[0].ignored, Some(By::Command));
}

#[tokio::test]
async fn what_an_attacker_wrote_is_data_to_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let (trap, got) = (folder.path().join("trap"), folder.path().join("got"));
    let mut stage = Stage::start();
    let command = format!("printf '%s' \"<F-USER>\" > {}; exit 1", got.display());
    let policy = Arc::new(policy(&[], &command));
    let trap = trap.display();
    let names = [
        format!("$(touch {trap})"),
        format!("`touch {trap}`"),
        format!("; touch {trap} #"),
        format!("\"; touch {trap}; \""),
        format!("'\ntouch {trap}\n'"),
        format!("| touch {trap}"),
        "<ip>".to_owned(),
        "-n".to_owned(),
    ];
    for name in names {
        assert_eq!(stage.shown(failure("192.0.2.1", &[("user", &name)]), &policy).await, ["192.0.2.1"]);
        assert_eq!(std::fs::read_to_string(&got).unwrap(), name);
    }
    assert!(!std::path::Path::new(&trap.to_string()).exists());
    // a name that would be looked up, too
    let hostile = format!("$(touch {trap}){}", "x".repeat(255));
    let shown = stage.shown(named_failure(&hostile), &policy).await;
    assert!(shown[0].starts_with("Unable to find a corresponding IP address for"), "{shown:?}");
}

#[tokio::test]
async fn those_who_ask_the_same_at_the_same_time_share_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let mut stage = Stage::start();
    let policy = Arc::new(policy(&[], &format!("echo >> {}; sleep 0.2", runs.display())));
    for tag in 0..40 {
        stage.ask("door", tag, failure("192.0.2.1", &[]), &policy).unwrap();
    }
    for tag in 0..40 {
        let answer = stage.answer().await;
        assert_eq!((answer.tag, &answer.failures[0].ignored), (tag, &Some(By::Command)));
    }
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "\n");
    tokio::task::yield_now().await;
    assert_eq!(stage.questions.pending(), 0);
}

#[tokio::test]
async fn answers_are_remembered_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let command = format!("echo >> {}; test <ip> = 192.0.2.1", runs.display());
    let count = || std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let mut stage = Stage::start();
    let policy = with_cache(&command, "<ip>", 2, 300.0);
    assert_eq!(stage.shown(failure("192.0.2.1", &[]), &policy).await, ["192.0.2.1 by command"]);
    assert_eq!(stage.shown(failure("192.0.2.1", &[]), &policy).await, ["192.0.2.1 by command, cached"]);
    for _ in 0..2 {
        assert_eq!(stage.shown(failure("192.0.2.2", &[]), &policy).await, ["192.0.2.2"]);
    }
    assert_eq!(count(), 2);
    stage.shown(failure("192.0.2.3", &[]), &policy).await;
    stage.shown(failure("192.0.2.1", &[]), &policy).await;
    assert_eq!(count(), 4, "there was room for two");
    let short = with_cache(&command, "<ip>", 2, 0.0);
    stage.shown(failure("192.0.2.1", &[]), &short).await;
    stage.shown(failure("192.0.2.1", &[]), &short).await;
    assert_eq!(count(), 6, "their time is over");
    // a value cannot make up the key of another one
    let by_user = with_cache(&command, "<F-USER>@<ip>", 9, 300.0);
    stage.shown(failure("192.0.2.1", &[("user", "bob")]), &by_user).await;
    assert_eq!(stage.shown(failure("192.0.2.2", &[("user", "bob@192.0.2.1\n")]), &by_user).await, ["192.0.2.2"]);
}

#[tokio::test]
async fn rules_are_asked_in_order_and_the_first_yes_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (friends, ran) = (folder.path().join("friends"), folder.path().join("ran"));
    std::fs::write(&friends, "192.0.2.0/25\nbob\n").unwrap();
    let file = format!("file:{}", friends.display());
    let list = ["198.51.100.0/24", "198.51.100.7", &file, "localhost"];
    let policy = Arc::new(policy(&list, &format!("echo <fid> >> {}; exit 1", ran.display())));
    let by_file = format!("by file:/{}", friends.display());
    let mut stage = Stage::start();
    for (id, by) in [
        ("127.0.0.1", "by ignoreself rule"),
        ("198.51.100.7", "by ip"),
        ("198.51.100.8", "by ip"),
        ("192.0.2.7", &by_file),
        ("bob", &by_file),
    ] {
        assert_eq!(stage.shown(failure(id, &[]), &policy).await, [format!("{id} {by}")]);
    }
    assert!(!ran.exists(), "none of these was worth the command");
    for id in ["203.0.113.1", "eve", "localhost"] {
        assert_eq!(stage.shown(failure(id, &[]), &policy).await, [id]);
    }
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "203.0.113.1\neve\nlocalhost\n");
    let mut rules = (*policy).clone();
    rules.rules.ignoreself = false;
    assert_eq!(stage.shown(failure("127.0.0.1", &[]), &Arc::new(rules)).await, ["127.0.0.1 by dns"]);
}

#[tokio::test]
async fn too_many_questions_are_lost_and_counted_and_hold_up_nobody() {
    let mut stage = Stage::start();
    let slow = Arc::new(policy(&[], "sleep 600"));
    let mut notes = 0;
    let mut lost = 0;
    // nothing runs on this thread until it waits, so none of these is being worked on
    for tag in 0..MAX_WAITING as u64 + 100 {
        if let Err(full) = stage.ask("slow", tag, failure("192.0.2.1", &[]), &slow) {
            lost += 1;
            assert_eq!(full.lost, lost);
            if let Some(note) = full.note {
                notes += 1;
                assert!(note.text.starts_with("[slow] host names or the ignorecommand"), "{}", note.text);
            }
        }
    }
    assert_eq!((lost, notes, stage.questions.lost("slow")), (100, 1, 100));
    let long = || Failure {
        matches: vec![Match { line: "x".repeat(1024 * 1024).into(), date: (0, 0) }],
        ..failure("192.0.2.1", &[])
    };
    let taken = (0..100).filter(|tag| stage.ask("long", *tag, long(), &slow).is_ok()).count();
    assert_eq!(taken, 15, "long lines count by what they take");
    assert_eq!(stage.shown(failure("192.0.2.9", &[]), &Arc::new(policy(&[], "true"))).await, ["192.0.2.9 by command"]);
    assert_eq!(stage.questions.pending(), MAX_WAITING + 15);
    stage.questions.forget("slow");
    assert_eq!(stage.questions.lost("slow"), 0);
}

#[tokio::test]
async fn the_machine_knows_its_own_addresses() {
    let stage = Stage::start();
    let (tell, mut told) = mpsc::unbounded_channel();
    stage.questions.watch_own(move |own| {
        let _ = tell.send(own);
    });
    let own = told.recv().await.unwrap();
    assert!(own.covering("127.0.0.1".parse().unwrap()).is_some());
}
