//! Hands a mail to a mail server.
//!
//! The dialogue, STARTTLS and the log-in are lettre's. The commands that name addresses are ours:
//! `root` and `fail2ban`, which have no domain, are addresses on the machine itself.

use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::Data;
use lettre::transport::smtp::extension::ClientId;

/// Port of a server that names none.
const PORT: u16 = 25;

/// A mail server, and how to speak with it.
pub(super) struct Server<'a> {
    /// Its name or address, perhaps with a port.
    pub host: &'a str,
    /// User and password.
    pub user: Option<(&'a str, &'a str)>,
    /// Whether only an encrypted connection will do.
    pub tls: bool,
    /// The full name of this machine.
    pub own: &'a str,
    /// How long a mail may take, whatever the server does.
    pub limit: Duration,
}

/// Recipients that the server refused, and why.
pub(super) type Refused = Vec<(String, String)>;

/// Sends a mail; a text without a line break at its end, addresses of graphic characters.
pub(super) async fn send(server: &Server<'_>, from: &str, to: &[String], text: &str) -> Result<Refused, String> {
    let late = |_| Err(format!("timed out after {} seconds", server.limit.as_secs_f64()));
    tokio::time::timeout(server.limit, dialogue(server, from, to, text)).await.unwrap_or_else(late)
}

async fn dialogue(server: &Server<'_>, from: &str, to: &[String], text: &str) -> Result<Refused, String> {
    let said = |error: lettre::transport::smtp::Error| error.to_string();
    let (host, port) = place(server.host)?;
    let own = match server.own.contains('.') {
        true => ClientId::Domain(server.own.to_owned()),
        false => ClientId::default(),
    };
    let mut connection =
        AsyncSmtpConnection::connect_tokio1((host, port), Some(server.limit), &own, None, None).await.map_err(said)?;
    if server.tls {
        // nobody but ourselves can be asked for a certificate on our own machine
        let here = host.parse::<std::net::IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
        let how = TlsParameters::builder(host.to_owned())
            .dangerous_accept_invalid_certs(here)
            .dangerous_accept_invalid_hostnames(here);
        connection.starttls(how.build_rustls().map_err(said)?, &own).await.map_err(said)?;
    }
    if let Some((user, password)) = server.user {
        let credentials = Credentials::new(user.to_owned(), password.to_owned());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(said)?;
    }
    connection.command(format!("MAIL FROM:<{from}>\r\n")).await.map_err(said)?;
    let mut refused = Refused::new();
    for recipient in to {
        if let Err(error) = connection.command(format!("RCPT TO:<{recipient}>\r\n")).await {
            if !error.is_permanent() && !error.is_transient() {
                return Err(said(error));
            }
            refused.push((recipient.clone(), said(error)));
        }
    }
    if refused.len() == to.len() {
        connection.abort().await;
        return Err(refused.pop().map_or_else(String::new, |(recipient, why)| format!("{recipient}: {why}")));
    }
    connection.command(Data).await.map_err(said)?;
    connection.message(text.as_bytes()).await.map_err(said)?;
    // it has the mail, whatever it says now
    let _ = connection.quit().await;
    Ok(refused)
}

/// The host and the port of `host`, `host:port`, `[address]:port` or an address.
fn place(text: &str) -> Result<(&str, u16), String> {
    let bad = || format!("`{text}` is no mail server; write `host` or `host:port`");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None if text.matches(':').count() == 1 => {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        }
        None => (text, None),
    };
    let port = port.filter(|port| !port.is_empty()).map_or(Ok(PORT), str::parse).map_err(|_| bad())?;
    if host.is_empty() { Err(bad()) } else { Ok((host, port)) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = silent.local_addr().unwrap().to_string();
        let limit = Duration::from_millis(50);
        let server = Server { host: &host, user: None, tls: false, own: "host", limit };
        let sent = send(&server, "fail2ban", &["root".to_owned()], "Subject: x\r\n\r\nx").await;
        assert!(sent.is_err(), "{sent:?}");
    }

    #[test]
    fn a_server_may_name_its_port() {
        for (text, expected) in [
            ("localhost", ("localhost", 25)),
            ("mail.example.org:587", ("mail.example.org", 587)),
            ("::1", ("::1", 25)),
            ("[2001:db8::1]:2525", ("2001:db8::1", 2525)),
            ("[2001:db8::1]", ("2001:db8::1", 25)),
            ("host:", ("host", 25)),
        ] {
            assert_eq!(place(text), Ok(expected));
        }
        for text in ["", ":25", "host:smtp", "host:99999", "[]:25"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
