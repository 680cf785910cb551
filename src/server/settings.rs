//! sekimori.toml beside a configuration: which file it is, and what is wrong in it.
//!
//! Here and not in `config`, because only with the jails of the configuration can it be told whether a name is one.

use std::path::{Path, PathBuf};

use crate::config::settings::{self, Settings};
use crate::fail2ban::diagnostic::{Diagnostic, nearest};
use crate::fail2ban::{self, Options};

/// Where the settings are: in the configuration directory, else in /etc/sekimori.
#[must_use]
pub fn path(directory: &Path) -> PathBuf {
    let near = directory.join("sekimori.toml");
    if near.exists() { near } else { PathBuf::from("/etc/sekimori/sekimori.toml") }
}

/// Reads the settings of a configuration directory; what is wrong has its default.
#[must_use]
pub fn read(directory: &Path) -> (Settings, Vec<Diagnostic>) {
    let (settings, problems) = settings::read(&path(directory));
    let found = problems
        .into_iter()
        .map(|problem| Diagnostic::error(Some(problem.span), problem.text).width(problem.width).help(problem.help));
    (settings, found.collect())
}

/// Warns about settings for jails that the configuration does not know, not even as one that is off.
#[must_use]
pub fn strangers(settings: &Settings, directory: &Path, options: &Options) -> Vec<Diagnostic> {
    if settings.jails.is_empty() {
        return Vec::new();
    }
    let known = fail2ban::jail_names(directory, options);
    let unknown = settings.jails.iter().filter(|jail| !known.contains(&jail.name));
    unknown
        .map(|jail| {
            let text = format!("[jail.{}] has no effect: there is no jail of this name", jail.name);
            let warning = Diagnostic::warning(Some(jail.span.clone()), text).width(jail.name.chars().count());
            match nearest(&jail.name, known.iter().map(String::as_str)) {
                Some(near) => warning.help(format!("is `{near}` meant?")),
                None => warning,
            }
        })
        .collect()
}
