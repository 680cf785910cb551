//! Which journal a jail reads: the options of `backend = systemd[…]`.

use std::path::PathBuf;

/// A systemd journal. Without any option it is that of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// `journalpath`: a directory of journal files.
    pub path: Option<PathBuf>,
    /// `journalfiles`: patterns of journal files; they come before `path`.
    pub files: Vec<String>,
    /// `journalflags`; see the constants.
    pub flags: u32,
    /// `namespace` of a journald.
    pub namespace: Option<String>,
}

impl Journal {
    /// Only entries of this machine.
    pub const LOCAL: u32 = 1;
    /// Only journals that are gone after a reboot.
    pub const RUNTIME: u32 = 2;
    /// Only entries of the system and its services.
    pub const SYSTEM: u32 = 4;
    /// Only entries of the user that the server runs as.
    pub const USER: u32 = 8;
}

/// Which entries are read: those that one group fits. In a group, values of one field are
/// alternatives, different fields have to fit all, and `+` stands between alternatives.
pub type Matches = Vec<Vec<String>>;

/// Whether a word may stand in a group: `FIELD=value`, or `+`.
#[must_use]
pub fn is_match(word: &str) -> bool {
    let field = |name: &str| {
        let letters = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=64).contains(&name.len())
            && name.bytes().all(letters)
            && !name.starts_with("__")
            && !name.as_bytes()[0].is_ascii_digit()
    };
    word == "+" || !word.contains('\0') && word.split_once('=').is_some_and(|(name, _)| field(name))
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn words_of_a_group_are_fields_with_values() {
        for word in ["+", "_COMM=sshd", "A1=", "MESSAGE=a=b c"] {
            assert!(is_match(word), "{word}");
        }
        for word in ["", "sshd", "--file=/etc/passwd", "comm=x", "=x", "__CURSOR=x", "1A=x", "A=\0", "/usr/bin/x"] {
            assert!(!is_match(word), "{word}");
        }
    }
}
