//! The stock actions that Debian's package installs, as its files define them, are recognised;
//! changed ones are not.

use std::fs;
use std::path::Path;

use sekimori::control::Value;
use sekimori::fail2ban::{self, stock};

/// Actions, and whether they cover named ports (or all).
const ACTIONS: &[(&str, bool)] = &[
    ("iptables", true),
    ("iptables-multiport", true),
    ("iptables-allports", false),
    ("iptables-new", true),
    ("iptables-ipset", true),
    ("iptables-ipset-proto6", true),
    ("iptables-ipset-proto6-allports", false),
    ("nftables", true),
    ("nftables-multiport", true),
    ("nftables-allports", false),
    ("firewallcmd-ipset", true),
];

/// The properties of an action in a jail, as the reader resolves them.
fn properties(action: &str, edit: impl Fn(String) -> String) -> Vec<(String, String)> {
    properties_with(action, "port=\"ssh,2222\", protocol=\"tcp\", chain=\"<known/chain>\"", edit)
}

/// The same with these arguments.
fn properties_with(action: &str, arguments: &str, edit: impl Fn(String) -> String) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("action.d")).unwrap();
    fs::create_dir(dir.path().join("filter.d")).unwrap();
    for entry in fs::read_dir("/etc/fail2ban/action.d").expect("the package fail2ban is needed for this test") {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let own = path.file_stem().is_some_and(|stem| stem == action);
        fs::write(dir.path().join("action.d").join(path.file_name().unwrap()), if own { edit(text) } else { text })
            .unwrap();
    }
    fs::write(dir.path().join("filter.d/f.conf"), "[Definition]\nfailregex = ^x <HOST>\n").unwrap();
    fs::write(dir.path().join("fail2ban.conf"), "[Definition]\n").unwrap();
    fs::write(
        dir.path().join("jail.conf"),
        format!("[door]\nenabled = true\nbackend = polling\nfilter = f\naction = {action}[{arguments}]\n"),
    )
    .unwrap();
    let configuration = fail2ban::read(dir.path(), &fail2ban::Options { dump: true, ..Default::default() });
    let words = configuration
        .stream
        .iter()
        .map(|command| &command.words)
        .find(|words| words.len() > 4 && words[2] == Value::from("action"))
        .unwrap_or_else(|| panic!("{action} has no properties: {:?}", configuration.diagnostics));
    let text = |value: &Value| value.as_text().map_or_else(|| format!("{value:?}"), str::to_owned);
    words[4].as_list().unwrap().iter().map(|pair| pair.as_list().unwrap()).map(|p| (text(&p[0]), text(&p[1]))).collect()
}

fn pairs(list: &[(String, String)]) -> Vec<(&str, &str)> {
    list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn unmodified_actions_are_recognised() {
    let mut unknown = String::new();
    for (action, ports) in ACTIONS {
        assert!(
            Path::new("/etc/fail2ban/action.d").join(format!("{action}.conf")).exists(),
            "no stock action {action}"
        );
        let properties = properties(action, |text| text);
        match stock::recognise(pairs(&properties).into_iter()) {
            Some(native) => assert_eq!(native.ports.as_deref(), ports.then_some("ssh,2222"), "{action}"),
            None => {
                let hash = stock::hash(&stock::canonical(&pairs(&properties)));
                unknown.push_str(&format!(
                    "    (\"{hash}\", Kind::{}), // {action}\n",
                    if *ports { "Ports" } else { "All" }
                ));
            }
        }
    }
    assert!(unknown.is_empty(), "not recognised:\n{unknown}");
}

#[test]
fn one_more_character_in_a_command_is_another_action() {
    for (action, _) in ACTIONS {
        let changed = properties(action, |text| text.replace("[Definition]", "[Definition]\nactionreban = true x"));
        assert_eq!(stock::recognise(pairs(&changed).into_iter()), None, "{action}");
    }
}

#[test]
fn any_changed_character_is_another_action() {
    // what a jail may set, and what makes no difference
    let free = ["name", "port", "protocol", "chain", "blocktype", "blocktype?family=inet6", "actname", "bantime"];
    for (action, _) in ACTIONS {
        let properties = properties(action, |text| text);
        let mut changes = 0;
        for (index, (name, value)) in properties.iter().enumerate().filter(|(_, (name, _))| !free.contains(&&**name)) {
            for (at, c) in value.char_indices() {
                let by = if c == 'q' { 'Q' } else { 'q' };
                let mut changed = properties.clone();
                changed[index].1 = format!("{}{by}{}", &value[..at], &value[at + c.len_utf8()..]);
                assert_eq!(
                    stock::recognise(pairs(&changed).into_iter()),
                    None,
                    "{action}: {name} = {}",
                    changed[index].1
                );
                changes += 1;
            }
            let mut renamed = properties.clone();
            renamed[index].0 = format!("{name}_");
            assert_eq!(stock::recognise(pairs(&renamed).into_iter()), None, "{action}: {name}_");
        }
        assert!(changes > 300, "{action}: only {changes} changes tried");
        let more = [pairs(&properties), vec![("actionreban", "x")]].concat();
        assert_eq!(stock::recognise(more.into_iter()), None, "{action}");
    }
}

#[test]
fn arguments_of_jails_are_understood_and_chains_we_do_not_see_are_left_to_the_commands() {
    let of = |action: &str, arguments: &str| {
        let properties = properties_with(action, arguments, |text| text);
        stock::recognise(pairs(&properties).into_iter())
    };
    let mut unknown = Vec::new();
    for (action, _) in ACTIONS {
        for arguments in ["name=other", "blocktype=DROP, port=\"25, 465:587\", name=web", "protocol=\"tcp,udp\""] {
            if of(action, arguments).is_none() {
                unknown.push(format!("{action}[{arguments}]"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
    for chain in ["INPUT", "FORWARD", "DOCKER-USER"] {
        assert!(of("iptables-multiport", &format!("chain={chain}")).is_some(), "{chain}");
    }
    assert!(of("nftables-multiport", "chain=mine").is_some());
    for (action, arguments) in [
        ("iptables-multiport", "chain=OUTPUT"),
        ("iptables-multiport", "returntype=DROP, blocktype=RETURN"),
        ("iptables-multiport", "lockingopt="),
        ("nftables-multiport", "chain_hook=output"),
        ("nftables-multiport", "table_family=bridge"),
    ] {
        assert_eq!(of(action, arguments), None, "{action}[{arguments}]");
    }
    let native = of("nftables-allports", "protocol=\"tcp,udp\", blocktype=drop").unwrap();
    assert_eq!((native.ports, &*native.protocol, &*native.blocktype), (None, "tcp,udp", "drop"));
}
