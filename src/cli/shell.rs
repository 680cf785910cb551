//! What shells and `man` are told of the programs: completions and manual pages, made from the one table of
//! options and commands that the parser and `--help` use.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, Command, CommandFactory as _, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::client::FAILED;
use super::options::OPTIONS;
use super::usage::{COMMANDS, command_words};
use super::{contact, demo, regex, report, shadow, takeover};

/// The names that the program goes by.
const PROGRAMS: [&str; 4] = ["sekimori", "fail2ban-client", "fail2ban-server", "fail2ban-regex"];

/// A program as clap sees it; none if it is none of ours.
fn program(name: &str) -> Option<Command> {
    Some(match name {
        "sekimori" => {
            let about = "follows logs and shuts out the addresses that fail too often";
            let [client, server] = ["client", "server"].map(|name| Command::new(name).about(about_of(name)));
            Command::new("sekimori")
                .about(about)
                .version(env!("CARGO_PKG_VERSION"))
                .subcommand(with_options(client, true))
                .subcommand(with_options(server, false))
                .subcommand(regex::options::Options::command().name("regex").disable_help_flag(true))
                .subcommand(contact::description().name("contact").disable_help_flag(true))
                .subcommand(report::description().name("report").disable_help_flag(true))
                .subcommand(shadow::description().name("shadow").disable_help_flag(true))
                .subcommand(takeover::description().name("takeover").disable_help_flag(true))
                .subcommand(demo::description().name("demo").disable_help_flag(true))
                .disable_help_subcommand(true)
        }
        "fail2ban-client" => with_options(Command::new("fail2ban-client").about(about_of("client")), true),
        "fail2ban-server" => with_options(Command::new("fail2ban-server").about(about_of("server")), false),
        "fail2ban-regex" => regex::options::Options::command().name("fail2ban-regex").disable_help_flag(true),
        _ => return None,
    })
}

fn about_of(part: &str) -> &'static str {
    if part == "server" { "the daemon that follows logs and bans" } else { "asks and tells the server" }
}

fn with_options(mut command: Command, has_commands: bool) -> Command {
    command = command.disable_help_flag(true).disable_version_flag(true);
    for option in &OPTIONS {
        let mut arg = Arg::new(option.names.first().copied().unwrap_or(option.text)).help(option.text);
        if let Some(letter) = option.letter {
            arg = arg.short(letter);
        }
        if let [first, others @ ..] = option.names {
            arg = arg.long(*first).visible_aliases(others.to_vec());
            // a manual page does not show aliases by itself
            for other in others {
                arg = arg.help(format!("{} (also --{other})", option.text));
            }
        }
        arg = match option.value {
            "" => arg.action(ArgAction::SetTrue),
            "DIR" => arg.value_name("DIR").value_hint(ValueHint::DirPath),
            "FILE" => arg.value_name("FILE").value_hint(ValueHint::FilePath),
            value => arg.value_name(value),
        };
        command = command.arg(arg);
    }
    if !has_commands {
        return command;
    }
    let mut words: Vec<&str> = command_words().filter(|word| !word.contains('[')).collect();
    words.sort_unstable();
    words.dedup();
    let words = words.into_iter().map(PossibleValue::new);
    let first = Arg::new("COMMAND").value_parser(PossibleValuesParser::new(words)).hide_possible_values(true);
    command.arg(first.help("what to do, see COMMANDS")).arg(Arg::new("WORDS").num_args(0..).help("the rest of it"))
}

fn wrong(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(FAILED)
}

/// `sekimori completions SHELL [PROGRAM]`: what the shell has to source.
#[must_use]
pub fn completions(words: &[String]) -> ExitCode {
    let shell = match words.first().map(String::as_str) {
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        _ => return wrong("name a shell: bash, zsh or fish"),
    };
    let name = words.get(1).map_or("sekimori", String::as_str);
    let Some(mut command) = program(name) else {
        return wrong(&format!("there is no program `{name}`; name one of {}", PROGRAMS.join(", ")));
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    let mut out = std::io::stdout().lock();
    // whoever closed it does not want to know
    let _ = out.write_all(&text).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// `sekimori manual DIRECTORY`: writes the manual pages of all names there.
#[must_use]
pub fn manual(words: &[String]) -> ExitCode {
    let [directory] = words else { return wrong("name the directory for the manual pages") };
    for name in PROGRAMS {
        let path = Path::new(directory).join(format!("{name}.1"));
        if let Err(error) = page(name).and_then(|text| std::fs::write(&path, text)) {
            return wrong(&format!("cannot write `{}`: {error}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

/// The manual page of a program.
fn page(name: &str) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let Some(command) = program(name) else { return Ok(text) };
    let man = Man::new(command);
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if name == "sekimori" {
        man.render_subcommands_section(&mut text)?;
    }
    if name == "fail2ban-client" {
        commands().to_writer(&mut text)?;
    }
    let mut more = Roff::new();
    more.control("SH", ["SEE ALSO"]);
    let others: Vec<String> =
        PROGRAMS.iter().filter(|other| **other != name).map(|other| format!("{other}(1)")).collect();
    more.text([roman(others.join(", "))]);
    more.to_writer(&mut text)?;
    Ok(text)
}

/// All commands of the client, in groups.
fn commands() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for (title, group) in COMMANDS {
        roff.control("SS", [*title]);
        for (command, text) in *group {
            roff.control("TP", []);
            roff.text([bold(*command)]);
            roff.text([roman(if text.is_empty() { "shows it" } else { text })]);
        }
    }
    roff
}
