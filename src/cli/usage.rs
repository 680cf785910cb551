//! What `--help` prints for the client and the server.
//!
//! Shell completions read it: a command stands behind four blanks, its description begins in column 46.

use std::fmt::Write as _;

use super::options::{Known, OPTIONS, Whose};

/// Column at which descriptions begin, from 0.
const COLUMN: usize = 45;
/// The same for options.
const OPTION_COLUMN: usize = 28;

/// Title, then commands and what they do.
pub type Group = (&'static str, &'static [(&'static str, &'static str)]);

/// All commands, in groups.
pub const COMMANDS: &[Group] = &[
    (
        "BASIC",
        &[
            ("start", "start the server and its jails"),
            ("restart", "stop the server, then start it"),
            ("restart [--unban] [--if-exists] <JAIL>", "stop a jail and start it as configured now"),
            ("reload [--restart] [--unban] [--all]", "read the configuration again; jails go on unless --restart"),
            ("reload [--restart] [--unban] [--if-exists] <JAIL>", "the same for one jail"),
            ("stop", "stop all jails and the server"),
            ("unban --all", "lift all bans of all jails and forget them"),
            ("unban <IP> ... <IP>", "lift the bans of these in all jails"),
            ("banned", "who is banned, by jail"),
            ("banned <IP> ... <IP>", "in which jails each of these is banned"),
            ("status", "number and names of the jails"),
            ("status --all [FLAVOR]", "the status of each jail"),
            ("stat[istic]s", "a table of the jails and their numbers"),
            ("ping", "ask whether the server lives"),
            ("echo <TEXT>", "have the server say it"),
            ("version", "version of the server"),
        ],
    ),
    (
        "LOGGING",
        &[
            ("set loglevel <LEVEL>", "least level that is logged"),
            ("get loglevel", ""),
            ("set logtarget <TARGET>", "a file, STDOUT, STDERR, SYSLOG or SYSOUT"),
            ("get logtarget", ""),
            ("set syslogsocket auto|<SOCKET>", "where SYSLOG sends to"),
            ("get syslogsocket", ""),
            ("flushlogs", "open the log file anew, after a rotation"),
        ],
    ),
    (
        "DATABASE",
        &[
            ("set dbfile <FILE>", "file of the database; None for none"),
            ("get dbfile", ""),
            ("set dbmaxmatches <INT>", "matched lines kept for a ban"),
            ("get dbmaxmatches", ""),
            ("set dbpurgeage <TIME>", "how long ended bans are remembered"),
            ("get dbpurgeage", ""),
        ],
    ),
    (
        "JAIL CONTROL",
        &[
            ("add <JAIL> <BACKEND>", "make an empty jail"),
            ("start <JAIL>", "start it"),
            ("stop <JAIL>", "stop it and take it away"),
            ("status <JAIL> [FLAVOR]", "its failures and bans; flavors: basic, short, stats, cymru"),
        ],
    ),
    (
        "JAIL CONFIGURATION",
        &[
            ("set <JAIL> idle on|off", "leave lines and bans as they are, or go on"),
            ("set <JAIL> ignoreself true|false", "whether this machine's addresses are spared"),
            ("set <JAIL> addignoreip <IP>", "spare an address, network or name"),
            ("set <JAIL> delignoreip <IP>", "no longer spare it"),
            ("set <JAIL> ignorecommand <COMMAND>", "command that says whom to spare"),
            ("set <JAIL> ignorecache <VALUE>", "how long its answers are remembered"),
            ("set <JAIL> addlogpath <FILE> [tail]", "follow a log from its beginning or end"),
            ("set <JAIL> dellogpath <FILE>", "no longer follow it"),
            ("set <JAIL> logencoding <ENCODING>", "encoding of the logs"),
            ("set <JAIL> addjournalmatch <MATCH>", "follow matching messages of the journal"),
            ("set <JAIL> deljournalmatch <MATCH>", "no longer follow them"),
            ("set <JAIL> addfailregex <REGEX>", "add a pattern of failures"),
            ("set <JAIL> delfailregex <INDEX>", "remove one, counted from 0"),
            ("set <JAIL> addignoreregex <REGEX>", "add a pattern of lines to leave out"),
            ("set <JAIL> delignoreregex <INDEX>", "remove one, counted from 0"),
            ("set <JAIL> findtime <TIME>", "time within which failures count"),
            ("set <JAIL> bantime <TIME>", "length of a ban"),
            ("set <JAIL> datepattern <PATTERN>", "where and how lines have their time"),
            ("set <JAIL> usedns <VALUE>", "yes, warn, no or raw"),
            ("set <JAIL> attempt <IP> [<LINE> ... <LINE>]", "count a failure"),
            ("set <JAIL> banip <IP> ... <IP>", "ban at once"),
            ("set <JAIL> unbanip [--report-absent] <IP> ... <IP>", "lift bans of this jail"),
            ("set <JAIL> maxretry <INT>", "failures that lead to a ban"),
            ("set <JAIL> maxmatches <INT>", "lines kept for an address"),
            ("set <JAIL> maxlines <INT>", "lines that a pattern may span"),
            ("set <JAIL> addaction <ACT>", "add an action"),
            ("set <JAIL> delaction <ACT>", "remove it"),
        ],
    ),
    (
        "ACTION CONFIGURATION",
        &[
            ("set <JAIL> action <ACT> actionstart <CMD>", "command at the start of the jail"),
            ("set <JAIL> action <ACT> actionstop <CMD>", "at its end"),
            ("set <JAIL> action <ACT> actioncheck <CMD>", "before the others: is all as it should be"),
            ("set <JAIL> action <ACT> actionban <CMD>", "to ban"),
            ("set <JAIL> action <ACT> actionunban <CMD>", "to unban"),
            ("set <JAIL> action <ACT> timeout <TIME>", "how long a command may take"),
            ("set <JAIL> action <ACT> <PROPERTY> <VALUE>", "any property"),
        ],
    ),
    (
        "JAIL INFORMATION",
        &[
            ("get <JAIL> banned", "who is banned"),
            ("get <JAIL> banned <IP> ... <IP>", "1 for those that are banned, 0 for the others"),
            ("get <JAIL> banip [<SEP>|--with-time]", "the same by end of ban; with SEP between, or with times"),
            ("get <JAIL> logpath", ""),
            ("get <JAIL> logencoding", ""),
            ("get <JAIL> journalmatch", ""),
            ("get <JAIL> ignoreself", ""),
            ("get <JAIL> ignoreip", ""),
            ("get <JAIL> ignorecommand", ""),
            ("get <JAIL> failregex", ""),
            ("get <JAIL> ignoreregex", ""),
            ("get <JAIL> findtime", ""),
            ("get <JAIL> bantime", ""),
            ("get <JAIL> datepattern", ""),
            ("get <JAIL> usedns", ""),
            ("get <JAIL> maxretry", ""),
            ("get <JAIL> maxmatches", ""),
            ("get <JAIL> maxlines", ""),
            ("get <JAIL> actions", "names of its actions"),
            ("get <JAIL> action <ACT> <PROPERTY>", "a command or another property"),
            ("get <JAIL> actionproperties <ACT>", "names of the properties"),
            ("get <JAIL> actionmethods <ACT>", "names of the methods"),
        ],
    ),
];

/// First words of all commands.
pub fn command_words() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|(_, commands)| *commands).filter_map(|(command, _)| command.split(' ').next()).chain([
        "stats",
        "statistics",
        "get",
        "set",
    ])
}

/// One line of an option.
fn option(option: &Known) -> String {
    let letter = option.letter.map(|letter| format!("-{letter}"));
    let names = option.names.iter().map(|name| format!("--{name}"));
    let mut head = letter.into_iter().chain(names).collect::<Vec<_>>().join(", ");
    if !option.value.is_empty() {
        _ = write!(head, " <{}>", option.value);
    }
    format!("    {head:width$} {}\n", option.text, width = OPTION_COLUMN - 5)
}

/// The options of one origin, a line each.
fn options(of: Whose) -> String {
    OPTIONS.iter().filter(|known| known.of == of).map(option).collect()
}

/// The whole text for a program of this name.
#[must_use]
pub fn text(program: &str, version: &str) -> String {
    let server = program.ends_with("server");
    let command = if server { "" } else { " <COMMAND>" };
    let mut out = format!(
        "Usage: {program} [OPTIONS]{command}\n\n\
         Fail2Ban v{version} is what this answers to; it is Sekimori v{}: it follows logs\n\
         and shuts out the addresses that fail too often.\n\nOptions:\n{}\nNot of Fail2Ban:\n{}",
        env!("CARGO_PKG_VERSION"),
        options(Whose::Fail2Ban),
        options(Whose::Ours)
    );
    if server {
        return out;
    }
    out.push_str("\nCommand:\n");
    for (index, (title, commands)) in COMMANDS.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        _ = writeln!(out, "{:COLUMN$}{title}", "");
        for (command, text) in *commands {
            if text.is_empty() {
                _ = writeln!(out, "    {command}");
            } else if command.len() + 4 < COLUMN {
                _ = writeln!(out, "    {command:width$}{text}", width = COLUMN - 4);
            } else {
                _ = writeln!(out, "    {command}\n{:COLUMN$}{text}", "");
            }
        }
    }
    out
}
