//! `[report]` of `sekimori.toml`: who reports, and how reports look.

use std::net::IpAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::settings::Reader;

/// Forms of a report, as the settings name them.
pub const FORMS: [&str; 3] = ["plain", "x-arf", "xarf"];
/// Languages of a report, as the settings name them.
pub const LANGUAGES: [&str; 2] = ["en", "ja"];

/// Who reports, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Key `from`: the sender's mail address.
    pub from: Option<String>,
    /// Key `reply_to`: where a person reads answers; else `from`.
    pub reply_to: Option<String>,
    /// Key `organisation`: who reports; else the domain of `from`.
    pub organisation: Option<String>,
    /// Key `opt_out`: where to say that no more reports are wanted, a mail address or an URL.
    pub opt_out: Option<String>,
    /// Key `form`: one of [`FORMS`]; the first if none is named.
    pub form: Option<&'static str>,
    /// Key `language`: one of [`LANGUAGES`]; the first if none is named.
    pub language: Option<&'static str>,
    /// Key `template`: a file with a text of the administrator's own.
    pub template: Option<PathBuf>,
    /// Key `destination`: the attacked address that reports name.
    pub destination: Option<IpAddr>,
    /// Key `own`: names of hosts and addresses that are taken out of log lines, beside the machine's own name.
    pub own: Vec<String>,
}

impl Report {
    pub(super) fn read(reader: &mut Reader<'_>, value: &toml::Spanned<DeValue<'_>>) -> Report {
        let mut report = Report::default();
        let one_line = |word: &str| (!word.is_empty() && !word.chars().any(char::is_control)).then(|| word.to_owned());
        for (key, value) in reader.table(value, "write [report]") {
            let address = "write a mail address such as \"abuse@example.net\"";
            match key.get_ref().as_ref() {
                "from" => report.from = reader.word(value, address, |word| one_line(word).filter(|w| w.contains('@'))),
                "reply_to" => {
                    report.reply_to = reader.word(value, address, |word| one_line(word).filter(|w| w.contains('@')));
                }
                "organisation" => report.organisation = reader.word(value, "write a name of one line", one_line),
                "opt_out" => report.opt_out = reader.word(value, "write a mail address or an URL", one_line),
                "form" => {
                    let form = |word: &str| FORMS.into_iter().find(|form| *form == word);
                    report.form = reader.word(value, "write \"plain\", \"x-arf\" (0.2) or \"xarf\" (4)", form);
                }
                "language" => {
                    let language = |word: &str| LANGUAGES.into_iter().find(|language| *language == word);
                    report.language = reader.word(value, "write \"en\" or \"ja\"", language);
                }
                "template" => {
                    report.template =
                        reader.word(value, "write the path of a file", |word| one_line(word).map(PathBuf::from));
                }
                "destination" => report.destination = reader.word(value, "write an address", |word| word.parse().ok()),
                "own" => report.own = reader.words(value, "write a list of host names and addresses", one_line),
                _ => {
                    let keys = "[report] has the keys `from`, `reply_to`, `organisation`, `opt_out`, `form`, `language`, `template`, \
                                `destination` and `own`";
                    reader.unknown(key, keys);
                }
            }
        }
        report
    }
}
