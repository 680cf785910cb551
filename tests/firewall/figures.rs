//! What bans cost, measured. Run it in a release build:
//! `cargo test --release -- --ignored --nocapture firewall::figures`.
//!
//! Ratios are of CPU time, measured interleaved in one run; wall times are told, not judged.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sekimori::address::Prefix;
use sekimori::firewall::nftables::Options;
use sekimori::firewall::{Change, Firewall};

use super::{Open, TCP, UDP, apply, ban, ipset, jail, nftables};
use crate::harness::net::{ATTACKER, Net, SERVER, passes, wait_for};
use crate::in_namespaces;

const WAYS: [(&str, Open<'static>); 3] = [
    ("nftables, owned", &|| nftables(Options::default())),
    ("nftables, watched", &|| nftables(Options { own: false, ..Options::default() })),
    ("ipset", &ipset),
];

fn host(n: u32, v6: bool) -> Prefix {
    Prefix::host(if v6 {
        std::net::Ipv6Addr::from(0x2001_0db8_0001_u128 << 80 | u128::from(n)).into()
    } else {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    })
}

fn bans(jail: &str, numbers: std::ops::Range<u32>, v6: bool) -> Vec<Change> {
    numbers.map(|n| Change::Ban { jail: jail.into(), prefix: host(n, v6), seconds: Some(3600.0) }).collect()
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of children that ended, in steps of 10 ms.
fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis(10 * (fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap()))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Wall and CPU microseconds per ban.
fn rate(firewall: &mut dyn Firewall, bans: &[Change], batch: usize) -> (f64, f64) {
    let (begin, used) = (Instant::now(), cpu());
    for changes in bans.chunks(batch) {
        apply(firewall, changes);
    }
    let count = bans.len() as f64;
    (micros(begin.elapsed()) / count, micros(cpu() - used) / count)
}

#[test]
#[ignore = "measures: a release build on a quiet machine"]
fn a_ban_costs_a_hundredth_of_a_command() {
    let _net = in_namespaces!();
    Command::new("sh")
        .args(["-c", "nft add table inet f; nft add set inet f s '{ type ipv4_addr; }'"])
        .status()
        .unwrap();
    let mut commands = Vec::new();
    let mut ours: Vec<Vec<f64>> = vec![Vec::new(); WAYS.len()];
    for round in 0..5_u32 {
        let used = children_cpu();
        for n in 0..40 {
            let ip = format!("10.9.{round}.{n}");
            let line = format!("nft add element inet f s '{{ {ip} }}'");
            assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
        }
        commands.push(micros(children_cpu() - used) / 40.0);
        for ((_, open), costs) in WAYS.iter().zip(&mut ours) {
            let mut firewall = open();
            apply(&mut *firewall, &[jail("sshd", &[22], &[TCP])]);
            costs.push(rate(&mut *firewall, &bans("sshd", 0..5000, false), 1).1);
            firewall.remove().unwrap();
        }
    }
    let command = sorted(commands)[2];
    println!("`sh -c 'nft add element'`: {command:.0} µs of CPU a ban");
    for ((name, _), costs) in WAYS.iter().zip(ours) {
        let cost = sorted(costs)[2];
        println!("{name}: {cost:.1} µs of CPU a ban, {:.0} times less", command / cost);
        assert!(command / cost >= 100.0, "{name}");
    }
}

#[test]
#[ignore = "measures: a release build on a quiet machine"]
fn bans_a_second_by_the_size_of_the_call() {
    let _net = in_namespaces!();
    println!("{:<18} {:>5} {:>6} {:>12} {:>12}", "", "", "batch", "bans/s", "µs CPU/ban");
    for (name, open) in WAYS {
        for v6 in [false, true] {
            let mut firewall = open();
            let names: Vec<String> = (0..91).map(|n| format!("jail-{n}")).collect();
            let jails: Vec<Change> =
                names.iter().enumerate().map(|(n, name)| jail(name, &[22, 1000 + n as u16], &[TCP])).collect();
            apply(&mut *firewall, &jails);
            let (wall, cpu) = rate(&mut *firewall, &bans("jail-50", 0..10_000, v6), 1);
            println!("{name:<18} 91 jails    1 {:>12.0} {cpu:>12.2}", 1e6 / wall);
            firewall.remove().unwrap();
            for (batch, count) in [(1, 20_000), (10, 50_000), (100, 100_000), (1000, 100_000), (10_000, 100_000)] {
                let mut firewall = open();
                apply(&mut *firewall, &[jail("sshd", &[22], &[TCP])]);
                let (wall, cpu) = rate(&mut *firewall, &bans("sshd", 0..count, v6), batch);
                let family = if v6 { "IPv6" } else { "IPv4" };
                println!("{name:<18} {family:>5} {batch:>6} {:>12.0} {cpu:>12.2}", 1e6 / wall);
                firewall.remove().unwrap();
            }
            let mut firewall = open();
            apply(&mut *firewall, &[jail("sshd", &[22], &[TCP])]);
            apply(&mut *firewall, &bans("sshd", 0..5_000, v6));
            let lift: Vec<Change> =
                (0..5_000).map(|n| Change::Unban { jail: "sshd".into(), prefix: host(n, v6) }).collect();
            let (wall, cpu) = rate(&mut *firewall, &lift, 1);
            println!("{name:<18} {:>5} unban1 {:>12.0} {cpu:>12.2}", "", 1e6 / wall);
            firewall.remove().unwrap();
        }
    }
}

#[test]
#[ignore = "measures: a release build on a quiet machine"]
fn stored_bans_at_start() {
    let _net = in_namespaces!();
    for count in [10_000, 100_000_u32] {
        for (name, open) in WAYS {
            let mut times = Vec::new();
            let mut used = Vec::new();
            for _ in 0..5 {
                let names: Vec<String> = (0..91).map(|n| format!("jail-{n}")).collect();
                // As the engine says it: every jail, then its bans; most of them of one jail.
                let mut changes: Vec<Change> = names
                    .iter()
                    .enumerate()
                    .map(|(n, name)| jail(name, &[22, 1000 + n as u16, 8080], &[TCP]))
                    .collect();
                for n in 0..count {
                    let jail = if n % 2 == 0 { &names[0] } else { &names[n as usize % 91] };
                    changes.push(Change::Ban {
                        jail: jail.as_str().into(),
                        prefix: host(n, n % 5 == 0),
                        seconds: Some(f64::from(n) + 60.0),
                    });
                }
                let (begin, start) = (Instant::now(), cpu());
                let mut firewall = open();
                apply(&mut *firewall, &changes);
                times.push(begin.elapsed().as_secs_f64() * 1e3);
                used.push((cpu() - start).as_secs_f64() * 1e3);
                firewall.remove().unwrap();
            }
            let (times, used) = (sorted(times), sorted(used));
            println!(
                "{count} bans in 91 jails, {name}: {:.0} ms ({:.0}-{:.0}), {:.0} ms of CPU",
                times[2], times[0], times[4], used[2]
            );
        }
    }
}

/// Microseconds from a call to the first packet that is dropped, by the sender's clock.
fn latency(net: &Net, call: &mut dyn FnMut()) -> f64 {
    let to = net.server().udp(SERVER, 4000);
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&to, 16 << 20).unwrap();
    let from = net.attacker().udp(ATTACKER, 0);
    wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
    let (address, stop) = (to.local_addr().unwrap(), AtomicBool::new(false));
    let (sent, called) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = Vec::with_capacity(100_000);
            while !stop.load(Ordering::Relaxed) && sent.len() < 100_000 {
                let now = Instant::now();
                let _ = from.send_to(&(sent.len() as u32).to_ne_bytes(), address);
                sent.push(now);
                while now.elapsed() < Duration::from_micros(10) {
                    std::hint::spin_loop();
                }
            }
            sent
        });
        std::thread::sleep(Duration::from_millis(5));
        let called = Instant::now();
        call();
        std::thread::sleep(Duration::from_millis(2));
        stop.store(true, Ordering::Relaxed);
        (sender.join().unwrap(), called)
    });
    let mut last = 0;
    let mut buffer = [0; 8];
    to.set_nonblocking(true).unwrap();
    while let Ok(length) = to.recv(&mut buffer) {
        if length == 4 {
            last = u32::from_ne_bytes(buffer[..4].try_into().unwrap());
        }
    }
    let first_dropped = sent.get(last as usize + 1).copied().unwrap_or(called);
    micros(first_dropped.saturating_duration_since(called))
}

#[test]
#[ignore = "measures: a release build on a quiet machine"]
fn from_the_call_to_the_first_dropped_packet() {
    let net = in_namespaces!();
    let line = "nft add table inet f; nft add chain inet f c '{ type filter hook input priority -1; }'; nft add set inet f s '{ type ipv4_addr; }'; nft add rule inet f c ip saddr @s drop";
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success());
    let mut found: Vec<(&str, Vec<f64>)> = WAYS.iter().map(|(name, _)| (*name, Vec::new())).collect();
    found.push(("sh -c 'nft add element'", Vec::new()));
    for _ in 0..33 {
        for ((_, open), (_, times)) in WAYS.iter().zip(&mut found) {
            let mut firewall = open();
            apply(&mut *firewall, &[jail("sshd", &[4000], &[UDP])]);
            times.push(latency(&net, &mut || apply(&mut *firewall, &[ban("sshd", ATTACKER, 600.0)])));
            firewall.remove().unwrap();
        }
        let line = format!("nft add element inet f s '{{ {ATTACKER} }}'");
        let command = latency(&net, &mut || {
            assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
        });
        found.last_mut().unwrap().1.push(command);
        assert!(Command::new("sh").args(["-c", "nft flush set inet f s"]).status().unwrap().success());
    }
    for (name, times) in found {
        let times = sorted(times);
        println!("{name}: {:.0} µs ({:.0}-{:.0})", times[16], times[0], times[32]);
    }
}

/// Nanoseconds of CPU a packet costs, of which the greater part is sending.
fn packet(from: &UdpSocket, to: &UdpSocket) -> f64 {
    const PACKETS: u32 = 20_000;
    let address = to.local_addr().unwrap();
    let used = cpu();
    for _ in 0..PACKETS {
        let _ = from.send_to(b"knock", address);
    }
    micros(cpu() - used) * 1e3 / f64::from(PACKETS)
}

#[test]
#[ignore = "measures: a release build on a quiet machine"]
fn ten_thousand_bans_slow_a_packet_a_twentieth_of_what_a_chain_does() {
    let net = in_namespaces!();
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules: String = (0..10_000)
        .map(|n| format!("-A f2b -s {}/32 -j REJECT\n", std::net::Ipv4Addr::from(0x0a00_0000 + n)))
        .collect();
    let text = format!(
        "*filter\n:f2b - [0:0]\n{rules}-A f2b -j RETURN\n-A INPUT -p udp -m multiport --dports 4000 -j f2b\nCOMMIT\n"
    );
    std::fs::write(file.path(), text).unwrap();
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); WAYS.len() + 2];
    for _ in 0..7 {
        costs[0].push(packet(&from, &to));
        for (n, (_, open)) in WAYS.iter().enumerate() {
            let mut firewall = open();
            apply(&mut *firewall, &[jail("sshd", &[4000], &[UDP])]);
            apply(&mut *firewall, &bans("sshd", 0..10_000, false));
            costs[n + 1].push(packet(&from, &to));
            firewall.remove().unwrap();
        }
        net.server().run(&format!("iptables-restore {}", file.path().display()));
        costs[WAYS.len() + 1].push(packet(&from, &to));
        net.server().run("iptables -F");
        net.server().run("iptables -X");
    }
    let costs: Vec<f64> = costs.into_iter().map(|costs| sorted(costs)[3]).collect();
    let chain = costs[WAYS.len() + 1] - costs[0];
    println!("no rules: {:.0} ns a packet; a chain of 10,000 rules: +{chain:.0} ns", costs[0]);
    for (n, (name, _)) in WAYS.iter().enumerate() {
        let more = costs[n + 1] - costs[0];
        println!("{name}, 10,000 bans, source not banned: {more:+.0} ns");
        assert!(chain / more.max(1.0) >= 20.0, "{name}");
    }
}
