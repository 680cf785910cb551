//! Host names, with a real name server and with one that never answers.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sekimori::address::Id;
use sekimori::config::UseDns;
use sekimori::filter::{Failure, Who};
use sekimori::jail::ignore::By;
use sekimori::server::questions::{Answer, Policy, Question, Questions};
use sekimori::server::setup::Ignore;
use sekimori::server::told::Circumstances;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::harness::net::Host;
use crate::harness::nsd::NameServer;
use crate::in_namespaces;

const ZONE: &str = "$ORIGIN example.org.
$TTL 60
@ SOA ns.example.org. admin.example.org. 1 60 60 60 60
@ NS ns
ns A 127.0.0.1
home A 192.0.2.7
home AAAA 2001:db8::7
many A 192.0.2.8
many A 192.0.2.9
empty TXT \"nothing\"
";

/// Has names looked up at 127.0.0.1, within this test's mount namespace.
fn own_resolver(here: Host, dir: &Path) {
    for (name, content) in [
        ("resolv.conf", "nameserver 127.0.0.1\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n198.51.100.4 neighbour\n"),
    ] {
        fs::write(dir.join(name), content).unwrap();
        here.run(&format!("mount --bind {} /etc/{name}", dir.join(name).display()));
    }
}

struct Stage {
    runtime: Runtime,
    questions: Questions,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Stage {
    fn start() -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tell, answers) = mpsc::unbounded_channel();
        let questions = Questions::start(runtime.handle(), move |answer| _ = tell.send(answer));
        Stage { runtime, questions, answers }
    }

    fn ask(&self, jail: &str, who: Who, policy: &Arc<Policy>) {
        let failure = Failure { regex: 0, who, time: None, address: None, matches: Vec::new(), data: Vec::new() };
        self.questions
            .ask(Question {
                jail: jail.into(),
                tag: 0,
                failure,
                policy: policy.clone(),
                circumstances: Circumstances::default(),
            })
            .unwrap();
    }

    fn answer(&mut self) -> Answer {
        let Stage { runtime, answers, .. } = self;
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(30), answers.recv()).await })
            .unwrap()
            .unwrap()
    }

    /// Who is to be counted, and the messages.
    fn shown(&mut self, who: Who, policy: &Arc<Policy>) -> (Vec<String>, Vec<String>) {
        self.ask("web", who, policy);
        let answer = self.answer();
        let failures = answer.failures.iter().map(|judged| match &judged.ignored {
            Some(by) => format!("{} by {by}", judged.id),
            None => judged.id.to_string(),
        });
        (failures.collect(), answer.notes.into_iter().map(|note| note.text).collect())
    }
}

fn policy(list: &[&str], usedns: UseDns) -> Arc<Policy> {
    let list = list.iter().map(|entry| (*entry).to_owned()).collect();
    Arc::new(Policy::new(&Ignore { list, ..Ignore::default() }, usedns, Arc::default()))
}

fn name(text: &str) -> Who {
    Who::Name(text.into())
}

fn id(text: &str) -> Who {
    Who::Id(Id::parse(text))
}

#[test]
fn a_host_name_in_a_log_means_all_its_addresses() {
    let net = in_namespaces!();
    let dir = tempfile::tempdir().unwrap();
    own_resolver(net.server(), dir.path());
    let server = NameServer::start(&[("example.org", ZONE)]);
    let mut stage = Stage::start();
    let warn = policy(&["192.0.2.9"], UseDns::Warn);
    let (mut failures, notes) = stage.shown(name("home.example.org"), &warn);
    failures.sort();
    assert_eq!(failures, ["192.0.2.7", "2001:db8::7"]);
    assert!(notes[0].starts_with("Determined IP using DNS Lookup: home.example.org = {'"), "{notes:?}");
    let (mut failures, _) = stage.shown(name("many.example.org"), &policy(&["192.0.2.9"], UseDns::Yes));
    failures.sort();
    assert_eq!(failures, ["192.0.2.8", "192.0.2.9 by ip"]);
    assert_eq!(stage.shown(name("neighbour"), &warn).0, ["198.51.100.4"], "hosts are looked up in /etc/hosts first");
    for missing in ["nobody.example.org", "empty.example.org"] {
        let (failures, notes) = stage.shown(name(missing), &warn);
        let text = format!("Unable to find a corresponding IP address for {missing}: [Errno -");
        assert!(failures.is_empty() && notes.len() == 1 && notes[0].starts_with(&text), "{notes:?}");
    }
    let hostile = "$(touch\u{1b}[31m;\n).example.org";
    let (failures, notes) = stage.shown(name(hostile), &warn);
    assert!(failures.is_empty() && notes[0].contains("for $(touch\\u{1b}[31m;\\n).example.org: "), "{notes:?}");
    // what is known stays known, good or bad
    drop(server);
    assert_eq!(stage.shown(name("home.example.org"), &warn).0.len(), 2);
    assert_eq!(stage.shown(name("nobody.example.org"), &warn), (vec![], vec![]));
}

#[test]
fn a_name_in_ignoreip_protects_its_addresses() {
    let net = in_namespaces!();
    let dir = tempfile::tempdir().unwrap();
    own_resolver(net.server(), dir.path());
    let _server = NameServer::start(&[("example.org", ZONE)]);
    let mut stage = Stage::start();
    let policy = policy(&["nobody.example.org", "home.example.org", "many.example.org"], UseDns::Warn);
    let (failures, notes) = stage.shown(id("2001:db8::7"), &policy);
    assert_eq!(failures, ["2001:db8::7 by dns"]);
    assert!(notes.len() == 1 && notes[0].contains("nobody.example.org"), "{notes:?}");
    assert_eq!(stage.shown(id("192.0.2.9"), &policy), (vec!["192.0.2.9 by dns".to_owned()], vec![]));
    for counted in ["192.0.2.10", "home.example.org", "192.0.2.0/28"] {
        assert_eq!(stage.shown(id(counted), &policy).0, [counted]);
    }
    // a name in the log, and one in ignoreip
    let (mut failures, _) = stage.shown(name("home.example.org"), &policy);
    failures.sort();
    assert_eq!(failures, ["192.0.2.7 by dns", "2001:db8::7 by dns"]);
}

#[test]
fn a_name_server_that_never_answers_delays_nobody_else() {
    let net = in_namespaces!();
    let dir = tempfile::tempdir().unwrap();
    own_resolver(net.server(), dir.path());
    let silent = UdpSocket::bind("127.0.0.1:53").unwrap();
    let mut stage = Stage::start();
    let (warn, friends) = (policy(&[], UseDns::Warn), dir.path().join("friends"));
    fs::write(&friends, "192.0.2.1").unwrap();
    let file = policy(&[&format!("file:{}", friends.display())], UseDns::Warn);
    // more names than the jail has turns
    for number in 0..20 {
        stage.ask("web", name(&format!("host{number}.example.org")), &warn);
    }
    silent.recv(&mut [0; 512]).unwrap();
    // of another jail, while all of those hang
    stage.ask("door", id("192.0.2.1"), &file);
    stage.ask("door", name("neighbour"), &warn);
    let answers = [stage.answer(), stage.answer()];
    assert!(answers.iter().all(|answer| &*answer.jail == "door"), "{answers:?}");
    assert_eq!(answers[0].failures[0].ignored, Some(By::File(friends.to_str().unwrap().into())));
    assert_eq!(answers[1].failures[0].id.to_string(), "198.51.100.4");
    for number in 0..20 {
        let answer = stage.answer();
        assert!(answer.failures.is_empty() && &*answer.jail == "web");
        let text = &answer.notes[0].text;
        assert!(text.contains(&format!("host{number}.example.org: no answer within 5s")), "{text}");
    }
    // the jail itself goes on as well
    stage.ask("web", id("192.0.2.1"), &file);
    assert!(stage.answer().failures[0].ignored.is_some());
}
