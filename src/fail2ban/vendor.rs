//! What is built into the program: enough to protect sshd on a machine that has no
//! configuration of Fail2Ban. All of it can be replaced, file by file.

/// Stands before the names of these files in what is said about them.
pub const PLACE: &str = "(built-in)";

/// Files by their path below a configuration directory.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("jail.conf", include_str!("../../jail.conf")),
    ("filter.d/sshd.conf", include_str!("../../filter.d/sshd.conf")),
    ("action.d/nftables-native.conf", include_str!("../../action.d/nftables-native.conf")),
];
