//! Whom to ignore, and by which rule: judged by the real Fail2Ban.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use sekimori::address::Id;
use sekimori::config::UseDns;
use sekimori::filter::{Datum, Failure, Match, Who};
use sekimori::server::questions::{Policy, Question, Questions};
use sekimori::server::setup::Ignore;
use sekimori::server::told::Circumstances;
use tokio::sync::mpsc;

use crate::in_namespaces;

/// Reads `[ignoreip, ignorecommand, id, data]` a line, answers with the rule or nothing.
const JUDGE: &str = r#"
import sys, json, logging, re
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from fail2ban.server.jail import Jail
from fail2ban.server.ticket import FailTicket
said = []
class Hear(logging.Handler):
    def emit(self, record): said.append(record.getMessage())
log = logging.getLogger("fail2ban"); log.setLevel(logging.INFO); log.addHandler(Hear())
for line in sys.stdin:
    ips, command, id, data = json.loads(line)
    filter = Jail("door", "polling").filter
    filter.ignoreSelf = False
    for ip in ips: filter.addIgnoreIP(ip)
    filter.ignoreCommand = command
    del said[:]
    yes = filter.inIgnoreIPList(FailTicket(id, 1700000000.0, ["one", "two"], data))
    by = [m.group(1) for m in (re.match(r"\[door\] Ignore .* by (.*)", text) for text in said) if m]
    print(json.dumps(by[0] if yes and by else None)); sys.stdout.flush()
"#;

type Case = (Vec<&'static str>, &'static str, &'static str, BTreeMap<&'static str, &'static str>);

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let lists: [&[&str]; 8] = [
        &["192.0.2.7"],
        &["192.0.2.7/24"],
        &["192.0.2.0/255.255.255.128", "2001:db8::/32"],
        &["2001:db8::/ffff:ffff::"],
        &["::ffff:192.0.2.7"],
        &["0.0.0.0/0"],
        &["localhost"],
        &["bob", "nosuch.invalid", "192.0.2.7"],
    ];
    let ids = [
        "192.0.2.7",
        "192.0.2.200",
        "198.51.100.1",
        "2001:db8::7",
        "2001:DB8:0::7",
        "::1",
        "127.0.0.1",
        "127.0.0.2",
        "bob",
        "localhost",
        "::ffff:192.0.2.7",
    ];
    for list in lists {
        cases.extend(ids.map(|id| (list.to_vec(), "", id, BTreeMap::new())));
    }
    let users = ["bob", "$(exit 1)", "a b", "; exit 1", "'", "x\ny", "-n", "<ip>", ""];
    let commands = [
        "exit 0",
        "exit 1",
        "exit 2",
        "nosuchprogram",
        "kill -9 $$",
        "test \"<F-USER>\" = bob",
        "test \"<F-USER>\" != bob",
        "test <ip> = 192.0.2.7",
        "test <fid> = 192.0.2.7 -a <family> = inet4 -a <failures> = 0 -a <restored> = 0",
        "test \"<matches>\" = \"one\ntwo\"",
        "test \"<time>\" = 1700000000.0",
        "test -z \"<F-MISSING>\"",
        "test \"<ip-rev>\" = 7.2.0.192.",
        "printf '%s' \"<F-USER>\" | grep -q ';'",
    ];
    for command in commands {
        cases.extend(users.map(|user| (vec![], command, "192.0.2.7", BTreeMap::from([("user", user)]))));
    }
    cases.push((vec!["192.0.2.0/24"], "exit 0", "192.0.2.7", BTreeMap::new()));
    cases.push((vec!["localhost"], "exit 0", "192.0.2.7", BTreeMap::new()));
    cases
}

fn judged(cases: &[Case]) -> Vec<Option<String>> {
    let input: String = cases.iter().map(|case| serde_json::to_string(case).unwrap() + "\n").collect();
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed: run tests/setup");
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_same_rule_ignores_the_same_failures() {
    // no name server is asked from here
    let _net = in_namespaces!();
    let cases = cases();
    let expected = judged(&cases);
    assert_eq!(expected.len(), cases.len());
    assert!(expected.iter().flatten().count() > 60, "the judge ignores somebody");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tell, mut answers) = mpsc::unbounded_channel();
    let questions = Questions::start(runtime.handle(), move |answer| _ = tell.send(answer));
    let line = |text: &str| Match { line: text.into(), date: (0, 0) };
    for (list, command, id, data) in &cases {
        let mut ignore = Ignore { command: Some((*command).to_owned()), ..Ignore::default() };
        ignore.list = list.iter().map(|entry| (*entry).to_owned()).collect();
        let failure = Failure {
            regex: 0,
            who: Who::Id(Id::parse(id)),
            time: Some(sekimori::time::Time::from_f64(1_700_000_000.0)),
            address: None,
            matches: vec![line("one"), line("two")],
            data: data.iter().map(|(name, text)| ((*name).into(), Datum::Text((*text).into()))).collect(),
        };
        let policy = Arc::new(Policy::new(&ignore, UseDns::Warn, Arc::default()));
        questions
            .ask(Question { jail: "door".into(), tag: 0, failure, policy, circumstances: Circumstances::default() })
            .unwrap();
    }
    let mut wrong = Vec::new();
    for (case, expected) in cases.iter().zip(&expected) {
        let answer = runtime.block_on(answers.recv()).unwrap();
        let by = answer.failures[0].ignored.as_ref().map(ToString::to_string);
        if by != *expected {
            wrong.push(format!("{case:?}: {by:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
