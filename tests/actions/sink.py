"""A mail server for tests: notes each mail down as a line of JSON.

sink.py FILE [auth] [tls CERTIFICATE KEY]; the first line of its output is its port.
"""

import asyncio
import email
import email.header
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

file, modes = sys.argv[1], sys.argv[2:]


def decoded(value):
    return str(email.header.make_header(email.header.decode_header(value.replace("\r\n", "").replace("\n", ""))))


class Notes:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 nobody\x1b[31m here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.original_content)
        note = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": [[name, decoded(value)] for name, value in mail.items() if name != "Date"],
            "date": mail["Date"],
            "body": mail.get_payload(decode=True).decode(mail.get_content_charset()),
            "tls": session.ssl is not None,
            "auth": session.auth_data and session.auth_data.decode(),
            "lines": max(map(len, envelope.original_content.split(b"\r\n"))),
        }
        with open(file, "a") as notes:
            notes.write(json.dumps(note) + "\n")
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"user", b"p\xc3\xa4ss word")
    return AuthResult(success=good, handled=False, auth_data=data.login)


async def serve():
    options = {}
    if "auth" in modes:
        options.update(authenticator=login, auth_required=True, auth_require_tls=False)
    if "tls" in modes:
        at = modes.index("tls")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(modes[at + 1], modes[at + 2])
        options.update(tls_context=context, require_starttls=True)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Notes(), loop=loop, hostname="sink", **options), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
