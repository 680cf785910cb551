//! Who is responsible for an address, asked of a real name server and a registry on loopback.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::net::{need, wait_for};
use crate::harness::nsd::NameServer;
use crate::in_namespaces;

const ZONE: &str = "abuse-contacts.test";
/// What such zones hold, good and bad.
const RECORDS: &str = r#"$ORIGIN abuse-contacts.test.
$TTL 7200
@ SOA ns.abuse-contacts.test. admin.abuse-contacts.test. 1 60 60 60 600
@ NS ns
ns A 127.0.0.1
1.0.0.127 TXT "Abusix ContactDB Test point"
2.0.0.127 TXT "root@localhost,abuse@localhost"
*.100.51.198 TXT "abuse@net-a.example"
7.2.0.192 TXT "abuse@a.example,noc@a.example"
8.2.0.192 TXT "abuse@net-" "c.example"
9.2.0.192 TXT "one@r.example"
9.2.0.192 TXT "one@r.example"
12.2.0.192 TXT "-oQ/x@evil.example"
13.2.0.192 TXT "$(id)@evil.example, good@b.example"
14.2.0.192 TXT "a@b.example\010Bcc: x@y.example"
15.2.0.192 TXT "a@a.example,b@b.example,c@c.example"
70.24.43.163 TXT "hostmaster@nic.ad.jp"
71.24.43.163 TXT "removed@lacnic.net"
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 TXT "six@v6.example"
"#;
const HOSTS: &str = "$ORIGIN rdap.test.
$TTL 60
@ SOA ns.rdap.test. admin.rdap.test. 1 60 60 60 60
@ NS ns
ns A 127.0.0.1
data A 127.0.0.1
reg A 127.0.0.1
inside A 10.1.2.3
";

/// A registry; ends with the test.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A configuration directory, and whom it makes us ask.
struct Stage {
    dir: tempfile::TempDir,
    _registry: Registry,
    _names: NameServer,
}

impl Stage {
    /// A registry with these answers by their paths below `https://reg.rdap.test/`.
    fn start(answers: &[(&str, Value)]) -> Stage {
        need("python3", "python3");
        need("openssl", "openssl");
        let names = NameServer::start(&[(ZONE, RECORDS), ("rdap.test", HOSTS)]);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args([
                "-subj",
                "/CN=rdap.test",
                "-addext",
                "subjectAltName=DNS:*.rdap.test,IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .args(["-keyout", &at("key"), "-out", &at("certificate")])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "openssl");
        let both = fs::read_to_string(at("certificate")).unwrap() + &fs::read_to_string(at("key")).unwrap();
        fs::write(at("both"), both).unwrap();
        let directory = json!({ "services": [
            [["0.0.0.0/0"], ["http://reg.rdap.test/", "https://reg.rdap.test/"]],
            [["198.51.101.0/24"], ["https://inside.rdap.test/"]],
            [["198.51.102.0/24"], ["https://10.1.2.3/"]],
            [["198.51.103.0/24"], ["http://reg.rdap.test/"]]
        ] });
        let mut table: Value = answers.iter().map(|(path, answer)| (format!("/{path}"), answer.clone())).collect();
        table["/rdap/ipv4.json"] = json!([200, {}, directory.to_string()]);
        fs::write(at("table"), table.to_string()).unwrap();
        fs::write(at("registry.py"), include_str!("registry.py")).unwrap();
        let child = Command::new("python3")
            .args([&at("registry.py"), "443", &at("both"), &at("table"), &at("notes")])
            .spawn()
            .unwrap();
        wait_for("the registry", Duration::from_secs(20), || std::net::TcpStream::connect("127.0.0.1:443").is_ok());
        let stage = Stage { dir, _registry: Registry(child), _names: names };
        stage.settings("127.0.0.1");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self, resolver: &str) {
        let settings = format!(
            "[contact]\nzone = \"{ZONE}\"\nresolver = \"{resolver}\"\nrdap = \"https://data.rdap.test/rdap/\"\n\
             leave_out = [\"@left.example\"]\nreport_also = [\"127.0.0.0/8\", \"192.0.2.0/24\", \"198.51.100.0/22\", \"2001:db8::/32\"]\n\
             [contact.table]\n\"198.51.100.128/25\" = \"desk@own.example\"\n\"198.51.100.200/32\" = \"never\"\n"
        );
        fs::write(self.path("sekimori.toml"), settings).unwrap();
    }

    /// Runs `sekimori contact`; exit code and documents.
    fn ask(&self, addresses: &[&str]) -> (i32, Vec<Value>) {
        let output = Command::new(env!("CARGO_BIN_EXE_sekimori"))
            .args(["contact", "--json", "-c"])
            .arg(self.dir.path())
            .args(addresses)
            .env("SSL_CERT_FILE", self.path("certificate"))
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// The contacts of one address.
    fn contacts(&self, address: &str) -> Vec<String> {
        let (_, found) = self.ask(&[address]);
        found[0]["contacts"].as_array().unwrap().iter().map(|contact| contact.as_str().unwrap().to_owned()).collect()
    }

    fn requests(&self) -> Vec<String> {
        fs::read_to_string(self.path("notes")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// What a source named and did not get through.
fn rejected(document: &Value) -> Vec<(String, String)> {
    let asked = document["asked"].as_array().unwrap().iter();
    let named = asked.flat_map(|asked| asked["named"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    named
        .filter(|named| !named["rejected"].is_null())
        .map(|named| (text(&named["address"]), text(&named["rejected"])))
        .collect()
}

#[test]
fn the_zone_of_abuse_contacts_is_read_as_it_is_meant_and_hostile_records_are_rejected() {
    let _net = in_namespaces!();
    let stage = Stage::start(&[]);
    for (address, expected) in [
        ("198.51.100.9", &["abuse@net-a.example"][..]),
        ("192.0.2.7", &["abuse@a.example", "noc@a.example"]),
        ("192.0.2.8", &["abuse@net-c.example"]),
        ("192.0.2.9", &["one@r.example"]),
        ("::ffff:192.0.2.9", &["one@r.example"]),
        ("192.0.2.12", &[]),
        ("192.0.2.13", &["good@b.example"]),
        ("192.0.2.14", &[]),
        ("192.0.2.15", &["a@a.example", "b@b.example"]),
        ("127.0.0.1", &[]),
        ("127.0.0.2", &[]),
        ("2001:db8::1", &["six@v6.example"]),
        // the administrator's own table comes first
        ("198.51.100.129", &["desk@own.example"]),
        ("198.51.100.200", &[]),
    ] {
        assert_eq!(stage.contacts(address), expected, "{address}");
    }
    let (code, found) = stage.ask(&["192.0.2.14"]);
    assert_eq!(
        rejected(&found[0]),
        [("a@b.example\nBcc: x@y.example".to_owned(), "not a plain mail address".to_owned())]
    );
    assert_eq!((code, found[0]["verdict"].as_str()), (1, Some("nobody")));
    let (_, found) = stage.ask(&["127.0.0.2"]);
    assert_eq!(rejected(&found[0])[0].1, "its domain is not one of the Internet");
    let (code, found) = stage.ask(&["198.51.100.200"]);
    assert_eq!((code, found[0]["verdict"].as_str()), (1, Some("never")));
    // a private address has nobody, and nobody is asked
    let before = stage.requests().len();
    let (code, found) = stage.ask(&["10.0.0.1", "fe80::1"]);
    assert_eq!((code, found[1]["verdict"].as_str()), (1, Some("never")));
    assert_eq!((found[0]["asked"].as_array().map(Vec::len), stage.requests().len()), (Some(0), before));
}

#[test]
fn where_the_zone_has_nothing_of_use_the_registry_is_asked() {
    let _net = in_namespaces!();
    let answer = fixture("apnic");
    let stage = Stage::start(&[
        ("ip/163.43.24.70", answer.clone()),
        ("ip/163.43.24.71", answer.clone()),
        ("ip/192.0.2.200", answer),
    ]);
    for (address, registry) in [("163.43.24.70", "hostmaster@nic.ad.jp"), ("163.43.24.71", "removed@lacnic.net")] {
        let (code, found) = stage.ask(&[address]);
        assert_eq!((code, found[0]["source"].as_str()), (0, Some("rdap")), "{}", found[0]);
        assert!(rejected(&found[0]).iter().any(|(text, _)| text == registry));
    }
    let (_, found) = stage.ask(&["192.0.2.200"]);
    assert_eq!(found[0]["source"], "rdap", "no such name in the zone");
    let accept = "reg.rdap.test /ip/192.0.2.200 application/rdap+json, application/json";
    assert_eq!(stage.requests().last().map(String::as_str), Some(accept));
}

#[test]
fn nobody_answering_is_not_the_same_as_nobody_there() {
    let _net = in_namespaces!();
    let stage = Stage::start(&[]);
    // a port where nobody listens
    stage.settings("127.0.0.1:5399");
    let (code, found) = stage.ask(&["198.51.100.9"]);
    assert_eq!((code, found[0]["verdict"].as_str()), (2, Some("no_answer")), "{}", found[0]);
    assert!(found[0]["retry_after"].as_u64() > Some(0));
    // one where somebody listens and says nothing
    let _silent = std::net::UdpSocket::bind("127.0.0.1:5398").unwrap();
    stage.settings("127.0.0.1:5398");
    let (code, _) = stage.ask(&["198.51.100.9"]);
    assert_eq!(code, 2);
    // the table is there without anybody's answer
    assert_eq!(stage.contacts("198.51.100.129"), ["desk@own.example"]);
}

/// An answer as it was captured.
fn fixture(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/lookup/fixtures/{name}-ip.json"));
    json!([200, { "Content-Type": "application/rdap+json" }, { "file": path }])
}

#[test]
fn all_registries_answers_are_understood() {
    let _net = in_namespaces!();
    let expected: [(&str, &str, &[&str]); 8] = [
        ("arin", "8.8.8.8", &["network-abuse@google.com"]),
        ("arin-cloudflare", "104.16.0.1", &["abuse@cloudflare.com"]),
        ("ripe", "193.0.6.139", &["abuse@ripe.net"]),
        ("apnic", "203.119.101.1", &["abuse@apnic.net"]),
        ("lacnic", "200.3.14.10", &["ipadmin@lacnic.net"]),
        ("lacnic-member", "200.40.30.245", &["ipadmin@antel.net.uy"]),
        ("afrinic", "196.216.2.6", &[]),
        ("registrobr", "200.160.2.3", &[]),
    ];
    let paths: Vec<(String, Value)> =
        expected.iter().map(|(name, address, _)| (format!("ip/{address}"), fixture(name))).collect();
    let answers: Vec<(&str, Value)> = paths.iter().map(|(path, answer)| (path.as_str(), answer.clone())).collect();
    let stage = Stage::start(&answers);
    for (name, address, contacts) in expected {
        assert_eq!(stage.contacts(address), contacts, "{name}");
    }
    let (_, found) = stage.ask(&["104.16.0.1", "104.17.0.1"]);
    assert_eq!(found[0]["network"], "104.16.0.0/12");
    // the second address of the network costs no second question
    assert_eq!(found[1]["contacts"], found[0]["contacts"]);
    assert!(!stage.requests().iter().any(|request| request.contains("104.17.0.1")));
}

#[test]
fn a_registry_cannot_lead_us_astray_or_keep_us_busy() {
    let _net = in_namespaces!();
    let to = |url: &str| json!([302, { "Location": url }, ""]);
    let stage = Stage::start(&[
        ("ip/192.0.2.101", to("https://10.1.2.3/ip")),
        ("ip/192.0.2.102", to("https://inside.rdap.test/ip")),
        ("ip/192.0.2.103", to("http://reg.rdap.test/ip/192.0.2.200")),
        ("ip/192.0.2.104", to("/ip/192.0.2.104")),
        ("ip/192.0.2.105", json!([200, {}, { "bytes": 2 << 20 }])),
        ("ip/192.0.2.106", json!([200, {}, "<html>busy</html>"])),
        ("ip/192.0.2.107", json!([500, {}, ""])),
        ("ip/192.0.2.108", to("ip/../../ip/192.0.2.200")),
        ("ip/192.0.2.109", to("file:///etc/passwd")),
        ("ip/192.0.2.110", json!([429, { "Retry-After": "1800" }, ""])),
        ("ip/192.0.2.200", fixture("apnic")),
    ]);
    for (address, words) in [
        ("192.0.2.101", "not a public address"),
        ("192.0.2.102", "has no public address"),
        ("192.0.2.103", "redirects to what is not https"),
        ("192.0.2.104", "more than 5 redirects"),
        ("192.0.2.105", "more than 1 MiB"),
        ("192.0.2.106", "no JSON"),
        ("192.0.2.107", "500"),
        ("192.0.2.109", "redirects to what is not https"),
        ("192.0.2.110", "left alone for 1800 s"),
        ("198.51.101.7", "has no public address"),
        ("198.51.102.7", "not a public address"),
        ("198.51.103.7", "no https server"),
    ] {
        let (code, found) = stage.ask(&[address]);
        assert_eq!((code, found[0]["verdict"].as_str()), (2, Some("no_answer")), "{address}: {}", found[0]);
        assert!(found[0]["asked"][1]["silent"].as_str().unwrap().contains(words), "{address}: {}", found[0]);
    }
    assert_eq!(stage.contacts("192.0.2.108"), ["abuse@apnic.net"], "an ordinary redirect is followed");
    let (_, found) = stage.ask(&["192.0.2.110", "192.0.2.108"]);
    assert_eq!((found[0]["retry_after"].as_u64(), found[1]["verdict"].as_str()), (Some(1800), Some("no_answer")));
    let (code, found) = stage.ask(&["192.0.2.111"]);
    assert_eq!((code, found[0]["verdict"].as_str()), (1, Some("nobody")), "what no registry knows has nobody");
}
