//! Jail names are arbitrary; names in the kernel are short and plain.

/// A name of at most `longest` (16 or more) letters, digits, `-` and `_`, beginning with a letter.
///
/// Names that are so already stay; others are made so and get a hash of the original behind
/// them, also those that look as if they had one, so different jails keep different names.
pub fn plain(name: &str, longest: usize) -> String {
    let fits = name.len() <= longest
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !looks_hashed(name);
    if fits {
        return name.to_owned();
    }
    let plain: String = name
        .chars()
        .skip_while(|c| !c.is_ascii_alphabetic())
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(longest - 9)
        .collect();
    format!("{}-{:08x}", if plain.is_empty() { "jail" } else { &plain }, hash(name))
}

fn looks_hashed(name: &str) -> bool {
    name.rsplit_once('-')
        .is_some_and(|(_, tail)| tail.len() == 8 && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// FNV-1a folded to 32 bits: the same in every run and release, so that a new process finds
/// the sets of the one before.
pub fn hash(text: &str) -> u32 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_plain_short_and_stay_different() {
        assert_eq!(plain("sshd", 20), "sshd");
        assert_eq!(plain("nginx-http-auth", 20), "nginx-http-auth");
        let odd = ["a.b", "a b", "a_b-00000000", "ü", "", "9x", "$(reboot)", "a\nb", "jail/../x", &"long".repeat(99)];
        let mut seen = std::collections::BTreeSet::new();
        for name in odd {
            let made = plain(name, 20);
            assert!(made.len() <= 20 && made.starts_with(|c: char| c.is_ascii_alphabetic()), "{made}");
            assert!(made.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{made}");
            assert!(seen.insert(made));
        }
    }
}
