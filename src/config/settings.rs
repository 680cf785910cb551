//! `sekimori.toml`: what Fail2Ban has no word for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Span;
use super::contact::Contact;
use super::report::Report;

/// Largest settings file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Where Fail2Ban 1.0 and 1.1 do the same thing differently, whom to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// As 1.0.2 does.
    #[default]
    V1_0,
    /// As 1.1 does.
    V1_1,
}

impl Compat {
    /// The version that clients and configuration files are told.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Compat::V1_0 => "1.0.2",
            Compat::V1_1 => "1.1.0",
        }
    }
}

impl Compat {
    /// As `sekimori.toml` and `--compat` have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compat::V1_0 => "1.0",
            Compat::V1_1 => "1.1",
        }
    }
}

impl std::str::FromStr for Compat {
    type Err = String;

    fn from_str(text: &str) -> Result<Compat, String> {
        match text {
            "1.0" => Ok(Compat::V1_0),
            "1.1" => Ok(Compat::V1_1),
            other => Err(format!("`{other}` is neither \"1.0\" nor \"1.1\"")),
        }
    }
}

/// Which part of the kernel does the banning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The best one there is.
    #[default]
    Auto,
    /// nftables.
    Nftables,
    /// ipset with iptables.
    Ipset,
    /// None: bans are only remembered.
    Memory,
}

/// What is done about a line that no filter could decide: it was cut, or a pattern took too many
/// steps. It is counted and shown by `status` in any case.
///
/// To count it as a failure is not among these: a pattern that did not come to its end says nothing
/// about who is meant, and any address found in the text without it may be the attacker's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undecided {
    /// The log tells of the first one.
    #[default]
    Count,
    /// The log shows how each one begins, up to a number each minute.
    Log,
}

/// The settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Key `compat`.
    pub compat: Compat,
    /// Key `native_actions`: whether unmodified stock firewall actions are done without their commands.
    pub native_actions: bool,
    /// Key `firewall.backend`.
    pub backend: Backend,
    /// Key `undecided`.
    pub undecided: Undecided,
    /// Keys `jail.NAME.undecided`, by name of the jail.
    pub undecided_of: BTreeMap<String, Undecided>,
    /// The tables `[jail.NAME]`.
    pub jails: Vec<Named>,
    /// Key `control.group`: whose members may use the control socket, besides root.
    pub control_group: Option<String>,
    /// The table `[contact]`.
    pub contact: Contact,
    /// The table `[report]`.
    pub report: Report,
}

/// A jail that the settings name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            compat: Compat::default(),
            native_actions: true,
            backend: Backend::default(),
            undecided: Undecided::default(),
            undecided_of: BTreeMap::new(),
            jails: Vec::new(),
            control_group: None,
            contact: Contact::default(),
            report: Report::default(),
        }
    }
}

/// Something wrong in the settings; the setting concerned has its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where it stands.
    pub span: Span,
    /// How many characters it has.
    pub width: usize,
    /// What is wrong.
    pub text: String,
    /// What to write instead.
    pub help: String,
}

/// Reads a settings file; a missing one means defaults.
#[must_use]
pub fn read(path: &Path) -> (Settings, Vec<Problem>) {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    match read {
        Ok(_) => parse(&text, path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Settings::default(), Vec::new()),
        Err(error) => {
            let span = Span { file: Arc::new(path.to_owned()), line: 1, column: 1 };
            let text = format!("cannot read this file: {error}");
            let help = "make it readable, or remove it".to_owned();
            (Settings::default(), vec![Problem { span, width: 0, text, help }])
        }
    }
}

/// Reads the text of a settings file.
#[must_use]
pub fn parse(text: &str, path: &Path) -> (Settings, Vec<Problem>) {
    let mut reader = Reader { text, file: Arc::new(path.to_owned()), problems: Vec::new() };
    let mut settings = Settings::default();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let range = error.span().unwrap_or(0..0);
            reader.problem(range, error.message().to_owned(), "see https://toml.io for the syntax");
            return (settings, reader.problems);
        }
    };
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "compat" => {
                if let Some(compat) = reader.word(value, "write \"1.0\" or \"1.1\"", |word| word.parse().ok()) {
                    settings.compat = compat;
                }
            }
            "native_actions" => match value.get_ref() {
                DeValue::Boolean(truth) => settings.native_actions = *truth,
                _ => reader.problem(value.span(), "this is no truth value".to_owned(), "write true or false"),
            },
            "firewall" => {
                for (key, value) in reader.table(value, "write [firewall]") {
                    if key.get_ref() != "backend" {
                        reader.unknown(key, "[firewall] has the key `backend`");
                        continue;
                    }
                    let help = "write \"auto\", \"nftables\", \"ipset\" or \"memory\"";
                    let backend = reader.word(value, help, |word| match word {
                        "auto" => Some(Backend::Auto),
                        "nftables" => Some(Backend::Nftables),
                        "ipset" => Some(Backend::Ipset),
                        "memory" => Some(Backend::Memory),
                        _ => None,
                    });
                    settings.backend = backend.unwrap_or(settings.backend);
                }
            }
            "control" => {
                for (key, value) in reader.table(value, "write [control]") {
                    if key.get_ref() != "group" {
                        reader.unknown(key, "[control] has the key `group`");
                        continue;
                    }
                    let name = |word: &str| (!word.is_empty()).then(|| word.to_owned());
                    settings.control_group = reader.word(value, "write the name of a group", name);
                }
            }
            "contact" => settings.contact = Contact::read(&mut reader, value),
            "report" => settings.report = Report::read(&mut reader, value),
            "undecided" => settings.undecided = reader.undecided(value).unwrap_or(settings.undecided),
            "jail" => {
                for (name, value) in reader.table(value, "write [jail.NAME]") {
                    let span = reader.span(name.span().start);
                    settings.jails.push(Named { name: name.get_ref().to_string(), span });
                    for (key, value) in reader.table(value, "write [jail.NAME]") {
                        if key.get_ref() != "undecided" {
                            reader.unknown(key, "[jail.NAME] has the key `undecided`");
                        } else if let Some(undecided) = reader.undecided(value) {
                            settings.undecided_of.insert(name.get_ref().to_string(), undecided);
                        }
                    }
                }
            }
            _ => {
                let keys = "the keys are `compat`, `native_actions`, `undecided`, `control.group`, \
                            `firewall.backend`, `contact`, `report` and `jail.NAME.undecided`";
                reader.unknown(key, keys);
            }
        }
    }
    (settings, reader.problems)
}

/// A key and its value.
type Entry<'v, 'i> = (&'v toml::Spanned<std::borrow::Cow<'i, str>>, &'v toml::Spanned<DeValue<'i>>);

/// What is being read.
pub(super) struct Reader<'a> {
    text: &'a str,
    file: Arc<PathBuf>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The place of a byte.
    fn span(&self, at: usize) -> Span {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { file: Arc::clone(&self.file), line: number(line), column: number(column) }
    }

    pub(super) fn problem(&mut self, range: std::ops::Range<usize>, text: String, help: &str) {
        let span = self.span(range.start);
        let width = self.text.get(range).map_or(0, |part| part.lines().next().unwrap_or("").chars().count());
        self.problems.push(Problem { span, width, text, help: help.to_owned() });
    }

    pub(super) fn unknown(&mut self, key: &toml::Spanned<std::borrow::Cow<'_, str>>, help: &str) {
        self.problem(key.span(), format!("unknown key `{}`", key.get_ref()), help);
    }

    /// The keys of a table; none if it is something else, which is a problem.
    pub(super) fn table<'v, 'i>(&mut self, value: &'v toml::Spanned<DeValue<'i>>, help: &str) -> Vec<Entry<'v, 'i>> {
        if let DeValue::Table(table) = value.get_ref() {
            return table.iter().collect();
        }
        self.problem(value.span(), "this is no table".to_owned(), help);
        Vec::new()
    }

    fn undecided(&mut self, value: &toml::Spanned<DeValue<'_>>) -> Option<Undecided> {
        self.word(value, "write \"count\" or \"log\"", |word| match word {
            "count" => Some(Undecided::Count),
            "log" => Some(Undecided::Log),
            _ => None,
        })
    }

    /// A value that `known` can read.
    pub(super) fn word<T>(
        &mut self,
        value: &toml::Spanned<DeValue<'_>>,
        help: &str,
        known: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(word) => known(word),
            _ => None,
        };
        if found.is_none() {
            self.problem(value.span(), "this value is not known".to_owned(), help);
        }
        found
    }

    /// Several such values, or one.
    pub(super) fn words<T>(
        &mut self,
        value: &toml::Spanned<DeValue<'_>>,
        help: &str,
        known: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        match value.get_ref() {
            DeValue::Array(values) => values.iter().filter_map(|value| self.word(value, help, &known)).collect(),
            _ => self.word(value, help, known).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_every_unknown_key_is_named_with_its_place() {
        let text = "compat = \"1.1\"\nnative_actions = false\nnativ = 1\n[firewall]\nbackend = \"pf\"\n  speed = 3\n";
        let (settings, problems) = parse(text, Path::new("s.toml"));
        assert_eq!(settings, Settings { compat: Compat::V1_1, native_actions: false, ..Settings::default() });
        let mut places: Vec<_> = problems.iter().map(|p| (p.span.line, p.span.column, p.text.as_str())).collect();
        places.sort_unstable();
        assert_eq!(
            places,
            [(3, 1, "unknown key `nativ`"), (5, 11, "this value is not known"), (6, 3, "unknown key `speed`")]
        );
        assert_eq!(parse("[firewall]\nbackend = \"memory\"", Path::new("x")).0.backend, Backend::Memory);
        let (_, problems) = parse("compat = \n", Path::new("x"));
        assert_eq!(problems[0].span.line, 1);
    }

    #[test]
    fn the_group_that_may_use_the_control_socket_has_a_name() {
        assert_eq!(parse("[control]\ngroup = \"adm\"", Path::new("x")).0.control_group.as_deref(), Some("adm"));
        for (text, problem) in [
            ("[control]\ngroup = 4", "this value is not known"),
            ("[control]\ngroup = \"\"", "this value is not known"),
            ("[control]\nmode = 4", "unknown key `mode`"),
            ("control = 4", "this is no table"),
        ] {
            let (settings, problems) = parse(text, Path::new("x"));
            assert_eq!((settings.control_group, &*problems[0].text), (None, problem));
        }
    }

    #[test]
    fn undecided_lines_have_a_setting_for_all_jails_and_one_for_each() {
        let text =
            "undecided = \"log\"\n[jail.web]\nundecided = \"count\"\n[jail.\"a b\"]\nundecided = \"ban\"\nx = 1\n";
        let (settings, problems) = parse(text, Path::new("s.toml"));
        assert_eq!(settings.undecided, Undecided::Log);
        assert_eq!(settings.undecided_of, [("web".to_owned(), Undecided::Count)].into());
        let mut places: Vec<_> = problems.iter().map(|p| (p.span.line, p.span.column, p.help.as_str())).collect();
        places.sort_unstable();
        assert_eq!(places, [(5, 13, "write \"count\" or \"log\""), (6, 1, "[jail.NAME] has the key `undecided`")]);
        let (_, problems) = parse("jail = 1\n[firewall.x]\n", Path::new("s.toml"));
        assert_eq!(
            (problems[0].text.as_str(), problems[0].help.as_str()),
            ("unknown key `x`", "[firewall] has the key `backend`")
        );
        assert_eq!((problems[1].text.as_str(), problems[1].help.as_str()), ("this is no table", "write [jail.NAME]"));
    }
}
