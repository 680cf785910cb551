//! Every command of the real client's manual page, with our server and with the real one.
//!
//! In `manual.txt` stands each command as the manual page has it, and indented below what is tried of it; behind
//! a `-` what is answered otherwise on purpose.

use std::io::Read as _;

use super::Servers;
use crate::client::Place;

/// The manual page of Debian's client.
const PAGE: &str = "/usr/share/man/man1/fail2ban-client.1.gz";

/// The commands of the manual page: in its part about commands each paragraph with a heading is one.
fn commands() -> Vec<String> {
    let file = std::fs::File::open(PAGE)
        .unwrap_or_else(|error| panic!("{PAGE}: {error}: fail2ban is needed with its manual page"));
    let mut page = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut page).unwrap();
    let (_, page) = page.split_once("\n.SH COMMAND").unwrap();
    let page = page.split("\n.SH ").next().unwrap();
    let heading = |part: &str| part.lines().next().unwrap().replace("\\fB", "").replace("\\fR", "").replace("\\-", "-");
    page.split("\n.TP\n").skip(1).map(heading).collect()
}

#[test]
fn each_command_of_the_manual_page_is_answered_as_by_the_real_server() {
    let servers = Servers::start();
    let listed: Vec<&str> = include_str!("manual.txt").lines().filter(|line| !line.starts_with(' ')).collect();
    let commands = commands();
    assert!(commands.len() > 90, "{commands:#?}");
    let forgotten: Vec<&String> = commands.iter().filter(|command| !listed.contains(&command.as_str())).collect();
    assert!(forgotten.is_empty(), "not tried: {forgotten:#?}");
    let mut found = Vec::new();
    for line in include_str!("manual.txt").lines().filter_map(|line| line.strip_prefix("    ")) {
        if let Some(line) = line.strip_prefix("- ") {
            assert!(servers.difference(line).is_some(), "{line} is answered as by the real server");
        } else if line == "restart" {
            // it starts the server that belongs to the client
            let ours = |place: &Place, words: &[&str]| place.ours(&[&["--firewall", "memory"], words].concat());
            found.extend(servers.compare(line, ours));
        } else {
            found.extend(servers.difference(line));
        }
    }
    assert!(found.is_empty(), "{} answers differ:\n{}", found.len(), found.join("\n"));
}
