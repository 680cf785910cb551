//! Reports as mail: one message to one contact, in one of three forms.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentDisposition, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};

use super::Incident;
use super::text::{self, Language, Words};
use super::xarf::{self, Reporter};
use crate::time::Time;

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Text, the log lines attached.
    #[default]
    Plain,
    /// X-ARF 0.2: text, YAML, log lines. Only one incident fits; of several it is [`Form::Plain`].
    Xarf02,
    /// Text, log lines, and an XARF 4 document for each incident that has one.
    Xarf4,
}

/// Who writes, to whom.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The sender's address.
    pub from: &'a str,
    /// Where answers are read.
    pub reply_to: &'a str,
    /// The recipient.
    pub to: &'a str,
    /// The sender's organisation.
    pub organisation: &'a str,
    /// Where to say that no more are wanted.
    pub opt_out: Option<&'a str>,
    /// Who named the recipient.
    pub source: &'a str,
    /// Unique: a UUID.
    pub id: &'a str,
    /// When it is written.
    pub date: Time,
}

/// Makes the message.
///
/// # Errors
/// If an address is none, or the template has a mistake; the text says which.
pub fn message(
    incidents: &[Incident],
    envelope: &Envelope<'_>,
    form: Form,
    language: Language,
    template: Option<&str>,
) -> Result<Message, String> {
    let mailbox = |what: &str, address: &str| -> Result<Mailbox, String> {
        let address = address.parse().map_err(|error| format!("{what} `{}`: {error}", address.escape_debug()))?;
        Ok(Mailbox::new(None, address))
    };
    let from = mailbox("sender", envelope.from)?;
    let domain = from.email.domain().to_owned();
    let reporter = Reporter { organisation: envelope.organisation, contact: envelope.reply_to, domain: &domain };
    let words = Words {
        id: envelope.id,
        organisation: envelope.organisation,
        reply_to: envelope.reply_to,
        opt_out: envelope.opt_out,
        source: envelope.source,
    };
    let text = text::write(incidents, &words, language, template).map_err(|error| format!("template, {error}"))?;
    let form = if form == Form::Xarf02 && incidents.len() != 1 { Form::Plain } else { form };
    let plain = SinglePart::plain(text);
    let lines = |name: String, incident: &Incident| {
        Attachment::new(name).body(xarf::evidence(incident), ContentType::TEXT_PLAIN)
    };
    let mut parts = MultiPart::mixed().singlepart(plain);
    for (number, incident) in (1..).zip(incidents) {
        if form == Form::Xarf02 {
            let yaml = xarf::yaml(incident, &reporter, envelope.id);
            let head = SinglePart::builder().header(named("text/plain; charset=utf-8; name=\"report.txt\"")?);
            parts = parts.singlepart(head.header(ContentDisposition::inline_with_name("report.txt")).body(yaml));
        }
        parts = parts.singlepart(lines(format!("log-{number}.txt"), incident));
        if form == Form::Xarf4
            && let Some(document) = xarf::json(incident, &reporter, &identity(envelope.id, number))
        {
            let body = Attachment::new(format!("xarf-{number}.json"));
            parts = parts.singlepart(body.body(format!("{document:#}"), named("application/json")?));
        }
    }
    let seconds = u64::try_from(envelope.date.seconds()).unwrap_or(0);
    let mut message = Message::builder()
        .from(from)
        .reply_to(mailbox("reply_to", envelope.reply_to)?)
        .to(mailbox("recipient", envelope.to)?)
        .subject(text::subject(incidents, envelope.id))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .message_id(Some(format!("<{}@{domain}>", envelope.id)))
        .multipart(parts)
        .map_err(|error| error.to_string())?;
    let mut header = |name: &'static str, value: &str| {
        message.headers_mut().insert_raw(HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned()));
    };
    // nothing shall answer this but a person (RFC 3834)
    header("Auto-Submitted", "auto-generated");
    header("X-Report-ID", envelope.id);
    if form == Form::Xarf02 {
        header("X-XARF", "PLAIN");
    }
    Ok(message)
}

fn named(content: &str) -> Result<ContentType, String> {
    ContentType::parse(content).map_err(|error| format!("`{content}`: {error}"))
}

/// The identity of one incident of a report: the report's own for the first, for others one made of it.
fn identity(id: &str, number: usize) -> String {
    match uuid::Uuid::parse_str(id) {
        Ok(report) if number > 1 => uuid::Uuid::from_u128(report.as_u128() ^ (number as u128)).to_string(),
        _ => id.to_owned(),
    }
}
