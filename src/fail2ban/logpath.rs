//! Option `logpath`: which files are meant.
//!
//! Wildcards are the shell's old three (`*`, `?`, `[…]`), with Python's order and rules.

use std::fs;
use std::path::Path;

/// Most files one pattern may name.
pub const MAX_FILES: usize = 100_000;

/// What one line of `logpath` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files that exist, in the order the directory lists them.
    pub files: Vec<String>,
    /// Symbolic links that lead nowhere.
    pub dangling: Vec<String>,
}

/// A line in its two parts: path pattern, and `head` or `tail`. The last blank separates them.
#[must_use]
pub fn entry(line: &str) -> (&str, &str) {
    line.rsplit_once(' ').unwrap_or((line, "head"))
}

/// The files a pattern names.
#[must_use]
pub fn glob(pattern: &str) -> Found {
    let mut found = Found::default();
    for path in expand(pattern) {
        let list = if Path::new(&path).exists() { &mut found.files } else { &mut found.dangling };
        list.push(path);
    }
    found
}

/// Whether a path may mean several files.
#[must_use]
pub fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn expand(pattern: &str) -> Vec<String> {
    let there = |path: &str| Path::new(path).symlink_metadata().is_ok();
    if !has_wildcard(pattern) {
        return if !pattern.is_empty() && there(pattern) { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let (folder, name) = match pattern.rfind('/') {
        Some(slash) => (&pattern[..=slash], &pattern[slash + 1..]),
        None => ("", pattern),
    };
    let bare = if folder.trim_end_matches('/').is_empty() { folder } else { folder.trim_end_matches('/') };
    let folders = if has_wildcard(bare) && bare != pattern { expand(bare) } else { vec![bare.to_owned()] };
    let mut found = Vec::new();
    for folder in folders {
        let join = |name: &str| {
            if folder.is_empty() || folder.ends_with('/') {
                format!("{folder}{name}")
            } else {
                format!("{folder}/{name}")
            }
        };
        if !has_wildcard(name) {
            let path = join(name);
            if if name.is_empty() { Path::new(&folder).is_dir() } else { there(&path) } {
                found.push(path);
            }
            continue;
        }
        let Ok(entries) = fs::read_dir(if folder.is_empty() { "." } else { &folder }) else { continue };
        let pattern: Vec<char> = name.chars().collect();
        for entry in entries.flatten() {
            let Ok(file) = entry.file_name().into_string() else { continue };
            if (name.starts_with('.') || !file.starts_with('.')) && matches(&pattern, &file) {
                found.push(join(&file));
            }
            if found.len() >= MAX_FILES {
                return found;
            }
        }
    }
    found
}

/// Whether a whole name fits a pattern. Linear but for the one star that is open at a time.
fn matches(pattern: &[char], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(next) = one(pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((back, at)) = star {
            star = Some((back, at + 1));
            p = back + 1;
            n = at + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Matches one character against what stands at `p`; the place behind that.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => {
            let negated = pattern.get(p + 1) == Some(&'!');
            let first = p + 1 + usize::from(negated);
            // A bracket that stands first is a member.
            let Some(length) = pattern.get(first + 1..).and_then(|rest| rest.iter().position(|&c| c == ']')) else {
                return (c == '[').then_some(p + 1);
            };
            let members = &pattern[first..first + 1 + length];
            let mut inside = false;
            let mut i = 0;
            while i < members.len() {
                if i + 2 < members.len() && members[i + 1] == '-' {
                    inside |= members[i] <= c && c <= members[i + 2];
                    i += 3;
                } else {
                    inside |= members[i] == c;
                    i += 1;
                }
            }
            (inside != negated).then_some(first + length + 2)
        }
        literal => (literal == c).then_some(p + 1),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, hit) in [
            ("*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[x", "[x", true),
            ("?", "é", true),
            ("a**b", "ab", true),
        ] {
            let pattern: Vec<char> = pattern.chars().collect();
            assert_eq!(matches(&pattern, name), hit, "{pattern:?} {name}");
        }
    }

    #[test]
    fn globs_name_what_exists_and_skip_hidden_files() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a/one.log", "b/one.log", "b/.hidden.log", "b/two"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("b/gone.log")).unwrap();
        let root = dir.path().to_str().unwrap();
        let mut found = glob(&format!("{root}/*/*.log"));
        found.files.sort();
        assert_eq!(found.files, [format!("{root}/a/one.log"), format!("{root}/b/one.log")]);
        assert_eq!(found.dangling, [format!("{root}/b/gone.log")]);
        assert_eq!(glob(&format!("{root}/b/two")).files.len(), 1);
        assert_eq!(glob(&format!("{root}/b/three")), Found::default());
    }
}
