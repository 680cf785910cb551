//! What shares the kernel with us: neighbour discovery, DNAT, other firewalls.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use sekimori::firewall::nftables::Options;
use sekimori::firewall::{Change, Scope, Verdict};

use super::{TCP, apply, ban, each, everywhere, ipset, nftables};
use crate::harness::net::{ATTACKER, ATTACKER6, Host, passes, wait_for};
use crate::in_namespaces;

#[test]
fn a_neighbour_banned_for_everything_can_still_be_talked_to() {
    let net = in_namespaces!();
    each(|name, firewall| {
        for verdict in [Verdict::Drop, Verdict::Reject] {
            let scope = Scope { ports: vec![], protocols: vec![], verdict };
            apply(firewall, &[Change::Jail { name: "recidive".into(), scope }]);
            apply(firewall, &[ban("recidive", ATTACKER6, None), ban("recidive", "2001:db8::/64", None)]);
            // The link-local address asks and answers as well.
            apply(firewall, &[ban("recidive", "fe80::/10", None)]);
            for host in [net.server(), net.attacker()] {
                host.run("ip -6 neigh flush dev cable");
            }
            // Our own packets find the neighbour, and its questions are answered.
            let (to, from) = (net.attacker().udp(ATTACKER6, 4000), net.server().udp("2001:db8::1", 0));
            wait_for(&format!("{name}: the neighbour"), Duration::from_secs(3), || passes(&from, &to));
            let back = net.server().udp("2001:db8::1", 4000);
            assert!(!passes(&to, &back), "{name}: the ban");
            let seen = net.attacker().run("ip -6 neigh show 2001:db8::1 dev cable");
            assert!(seen.contains("lladdr") && !seen.contains("FAILED"), "{name}: {seen}");
        }
    });
}

#[test]
fn published_ports_of_containers_are_covered() {
    let net = in_namespaces!();
    // As Docker does it: port 5555 leads to 6666 of another address (here of this machine).
    net.server().run("nft add table ip docker");
    net.server().run("nft add chain ip docker pre { type nat hook prerouting priority -100 ; }");
    net.server().run("nft add rule ip docker pre tcp dport 5555 dnat to 192.0.2.1:6666");
    let _listener = net.server().listen("0.0.0.0", 6666);
    let wait = Duration::from_millis(150);
    each(|name, firewall| {
        for verdict in [Verdict::Drop, Verdict::Reject] {
            let scope = Scope { ports: vec![(5555, 5555)], protocols: vec![TCP], verdict };
            apply(firewall, &[Change::Jail { name: "app".into(), scope }]);
            assert!(net.attacker().connects("192.0.2.3", 5555, wait).is_ok(), "{name}");
            apply(firewall, &[ban("app", "192.0.2.3", None)]);
            let published = net.attacker().connects("192.0.2.3", 5555, wait);
            assert!(published.is_err(), "{name} {verdict:?}: a published port stayed open");
            assert!(net.attacker().connects("192.0.2.3", 6666, wait).is_ok(), "{name}");
            assert!(net.attacker().connects("192.0.2.4", 5555, wait).is_ok(), "{name}");
            apply(firewall, &[Change::RemoveJail("app".into())]);
        }
    });
}

#[test]
fn connections_that_stand_are_cut_too() {
    let net = in_namespaces!();
    each(|name, firewall| {
        let listener = net.server().listen("0.0.0.0", 4000);
        let mut client = net.attacker().connects("192.0.2.3", 4000, Duration::from_secs(1)).unwrap();
        let mut peer = listener.accept().unwrap().0;
        client.write_all(b"in").unwrap();
        peer.read_exact(&mut [0; 2]).unwrap();
        apply(firewall, &[everywhere("recidive"), ban("recidive", "192.0.2.3", None)]);
        client.write_all(b"out").unwrap();
        peer.set_nonblocking(true).unwrap();
        std::thread::yield_now();
        assert!(peer.read(&mut [0; 3]).is_err(), "{name}");
    });
}

/// A stock action of the real Fail2Ban, run by its own code.
struct Stock(Child);

impl Stock {
    fn new(host: Host, action: &str) -> Stock {
        let program = r#"
import sys
from fail2ban.client.actionreader import ActionReader
from fail2ban.server.action import CommandAction
name = sys.argv[1]
reader = ActionReader(name, 'stock', {'port': '4000', 'protocol': 'tcp', 'name': 'stock'}, basedir='/etc/fail2ban')
reader.read(); reader.getOptions({})
action = CommandAction(None, name)
for command in reader.convert():
    for key, value in command[-1] if command[0] == 'multi-set' else []:
        setattr(action, key, value)
for step in sys.stdin:
    verb, _, ip = step.strip().partition(' ')
    getattr(action, verb)(*([{'ip': ip, 'family': 'inet4', 'bantime': 600}] if ip else []))
    print('done', flush=True)
"#;
        let mut command = host.command("/usr/bin/python3");
        command.args(["-c", program, action]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Stock(command.spawn().unwrap())
    }

    /// Calls a method, such as `start` or `ban 192.0.2.2`.
    fn call(&mut self, step: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{step}").unwrap();
        let mut answer = [0; 5];
        self.0.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"done\n");
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn stock_actions_run_as_commands_beside_us() {
    let net = in_namespaces!();
    crate::harness::net::need("fail2ban-client", "fail2ban");
    let _listener = net.server().listen("0.0.0.0", 4000);
    let wait = Duration::from_millis(300);
    let reached =
        || ["192.0.2.3", "192.0.2.4", "192.0.2.5"].map(|from| net.attacker().connects(from, 4000, wait).is_ok());
    let unowned = Options { own: false, ..Options::default() };
    let ways: [super::Open<'_>; 2] = [&|| nftables(unowned.clone()), &ipset];
    for open in ways {
        for action in ["nftables-multiport", "iptables-multiport", "iptables-ipset-proto6"] {
            let mut firewall = open();
            let name = format!("{action} beside {}", firewall.describe());
            let mut stock = Stock::new(net.server(), action);
            apply(&mut *firewall, &[super::jail("stock", &[4000], &[TCP]), ban("stock", "192.0.2.3", None)]);
            stock.call("start");
            stock.call("ban 192.0.2.4");
            assert_eq!(reached(), [false, false, true], "{name}");
            apply(&mut *firewall, &[ban("stock", "192.0.2.5", None), super::unban("stock", "192.0.2.3")]);
            assert_eq!(reached(), [true, false, false], "{name}");
            stock.call("unban 192.0.2.4");
            assert_eq!(reached(), [true, true, false], "{name}");
            assert_eq!(firewall.heal().unwrap(), None, "{name}");
            stock.call("stop");
            assert_eq!(reached(), [true, true, false], "{name}");
            assert_eq!(firewall.heal().unwrap(), None, "{name}");
            firewall.remove().unwrap();
        }
    }
}

#[test]
fn iptables_flushed_leaves_nftables_bans_alone() {
    let net = in_namespaces!();
    for options in [Options::default(), super::old()] {
        let mut firewall = nftables(options);
        apply(&mut *firewall, &[everywhere("recidive"), ban("recidive", ATTACKER, None)]);
        for command in ["iptables -F", "iptables -t raw -F", "iptables -X", "ip6tables -F"] {
            net.server().run(command);
        }
        net.server().shell("iptables-save | iptables-restore");
        let (to, from) = (net.server().udp("192.0.2.1", 4000), net.attacker().udp(ATTACKER, 0));
        assert!(!passes(&from, &to));
        assert_eq!(firewall.heal().unwrap(), None);
        firewall.remove().unwrap();
    }
}
