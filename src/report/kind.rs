//! What an attack is called, by the name of the jail that saw it.

/// A kind of attack.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name that abuse desks sort by.
    pub name: &'static str,
    /// The attacked service.
    pub service: &'static str,
    /// Where it usually listens; none if that says nothing.
    pub port: Option<u16>,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// How it was seen, in English and in Japanese.
    pub seen: [&'static str; 2],
    /// Its type in XARF 4.
    pub xarf: Xarf,
}

/// Types of XARF 4's category `connection` that we can fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xarf {
    /// Needs a source port.
    LoginAttack,
    /// Needs none.
    WebScan,
    /// No type fits.
    None,
}

const LOGIN: [&str; 2] = ["the service wrote failed logins into its log", "サービスのログに認証失敗が記録されました"];
const SCAN: [&str; 2] = [
    "the web server wrote requests for known weaknesses into its log",
    "ウェブサーバーのログに既知の脆弱性を探すリクエストが記録されました",
];
const REFUSED: [&str; 2] = ["the mail server refused the messages", "メールサーバーが受信を拒否しました"];
const OTHER: [&str; 2] = ["the service wrote the attempts into its log", "サービスのログに攻撃の試みが記録されました"];

const fn login(service: &'static str, port: u16, protocol: &'static str) -> Kind {
    Kind { name: "login-attack", service, port: Some(port), protocol, seen: LOGIN, xarf: Xarf::LoginAttack }
}

const WEB_SCAN: Kind =
    Kind { name: "web-scan", service: "http", port: Some(80), protocol: "tcp", seen: SCAN, xarf: Xarf::WebScan };
const MAIL: Kind =
    Kind { name: "mail-abuse", service: "smtp", port: Some(25), protocol: "tcp", seen: REFUSED, xarf: Xarf::None };
static UNKNOWN: Kind =
    Kind { name: "attack", service: "other", port: None, protocol: "tcp", seen: OTHER, xarf: Xarf::None };

/// How names of jails begin; the first that fits counts.
static KINDS: [(&str, Kind); 39] = [
    ("sshd", login("ssh", 22, "tcp")),
    ("ssh", login("ssh", 22, "tcp")),
    ("dropbear", login("ssh", 22, "tcp")),
    ("selinux-ssh", login("ssh", 22, "tcp")),
    ("postfix-sasl", login("smtp", 25, "tcp")),
    ("postfix-auth", login("smtp", 25, "tcp")),
    ("sendmail-auth", login("smtp", 25, "tcp")),
    ("exim-auth", login("smtp", 25, "tcp")),
    ("courier-smtp", MAIL),
    ("postfix", MAIL),
    ("sendmail", MAIL),
    ("exim", MAIL),
    ("qmail", MAIL),
    ("dovecot", login("imap", 143, "tcp")),
    ("courier", login("imap", 143, "tcp")),
    ("cyrus-imap", login("imap", 143, "tcp")),
    ("uwimap", login("imap", 143, "tcp")),
    ("solid-pop3d", login("pop3", 110, "tcp")),
    ("sieve", login("sieve", 4190, "tcp")),
    ("perdition", login("imap", 143, "tcp")),
    ("proftpd", login("ftp", 21, "tcp")),
    ("vsftpd", login("ftp", 21, "tcp")),
    ("pure-ftpd", login("ftp", 21, "tcp")),
    ("wuftpd", login("ftp", 21, "tcp")),
    ("gssftpd", login("ftp", 21, "tcp")),
    ("mysqld", login("mysql", 3306, "tcp")),
    ("mongodb", login("mongodb", 27017, "tcp")),
    ("mssql", login("mssql", 1433, "tcp")),
    ("asterisk", login("sip", 5060, "udp")),
    ("freeswitch", login("sip", 5060, "udp")),
    ("nginx-http-auth", login("http", 80, "tcp")),
    ("apache-auth", login("http", 80, "tcp")),
    ("lighttpd-auth", login("http", 80, "tcp")),
    ("wordpress", login("http", 80, "tcp")),
    ("wp-login", login("http", 80, "tcp")),
    ("apache", WEB_SCAN),
    ("nginx", WEB_SCAN),
    ("php-url-fopen", WEB_SCAN),
    ("openhab", login("http", 80, "tcp")),
];

impl Kind {
    /// What a jail of this name sees.
    #[must_use]
    pub fn of(jail: &str) -> &'static Kind {
        KINDS.iter().find(|(start, _)| jail.starts_with(start)).map_or(&UNKNOWN, |(_, kind)| kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jails_tell_what_was_attacked() {
        for (jail, name, service) in [
            ("sshd", "login-attack", "ssh"),
            ("sshd-aggressive", "login-attack", "ssh"),
            ("postfix", "mail-abuse", "smtp"),
            ("postfix-sasl", "login-attack", "smtp"),
            ("nginx-botsearch", "web-scan", "http"),
            ("nginx-http-auth", "login-attack", "http"),
            ("recidive", "attack", "other"),
        ] {
            assert_eq!((Kind::of(jail).name, Kind::of(jail).service), (name, service), "{jail}");
        }
    }
}
